"""What a store's record says of the models that made its labels."""

from typing import Any

from distill import lineage
from distill.ancestry import of_weights
from distill.labels.meta import TeacherMeta
from pseudo_labels.predictor import Asker, Predictor, UsesHelpers


def told(teacher: Predictor) -> TeacherMeta:
    """A teacher, and what it was made of as far as it tells."""
    return TeacherMeta(
        name=teacher.name,
        sha256=teacher.sha256,
        licence=teacher.licence,
        space=teacher.space.name,
        preprocessing=dict(teacher.preprocessing),
        lineage=lineage.of_model(
            teacher.name, sha256=teacher.sha256, licence=teacher.licence
        ).as_json(),
    )


def helped(asker: Asker) -> dict[str, Any]:
    """The fields of a `StoreMeta` that tell of models which are no teachers."""
    if not isinstance(asker, UsesHelpers):
        return {}
    helpers = tuple(of_weights(str(name)).as_json() for name in asker.helpers)
    return {"classes": tuple(asker.classes), "helpers": helpers}
