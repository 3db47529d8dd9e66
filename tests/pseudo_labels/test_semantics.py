"""Sky and classes beside a strategy's answer."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import AutoTokenizer, GroundingDinoForObjectDetection

from distill import lineage
from distill.datasets.image_folder import ImageFolder
from distill.datasets.licences import of_labels
from distill.datasets.pseudo_labelled import PseudoLabelled
from distill.labels.store import LabelStore
from distill.transforms import _nearest
from distill.types import Space
from pseudo_labels.predictor import Answer, Asker
from pseudo_labels.semantics import SemanticAsker, with_semantics
from tests import tiny_grounding, tiny_teacher
from tests.models import test_hq_sam as tiny_hq_sam
from tests.models import test_tagger as tiny_tagger


class Inner:
    space = Space.AFFINE_DISPARITY

    def views(self, image: Image.Image) -> tuple[torch.Tensor]:
        return (torch.zeros(3, 14, 28),)

    def ask(self, views: Sequence[torch.Tensor]) -> Answer:
        count = len(views[0])
        return Answer(
            values=torch.arange(count * 14 * 28.0).view(count, 14, 28),
            agreement={"flip": torch.ones(count)},
        )


class Finder:
    """Finds each phrase where it is told, with its score; nothing in a black image."""

    device = torch.device("cpu")

    def __init__(self, tokenizer: Any, told: dict[str, tuple[float, list[float]]]) -> None:
        self.tokenizer, self._told = tokenizer, told

    def to(self, device: torch.device) -> None: ...

    def scores(self, image: torch.Tensor, caption: str) -> tuple[torch.Tensor, torch.Tensor]:
        logits = torch.full((len(image), len(self._told), 256), -9.0)
        words = self.tokenizer.convert_ids_to_tokens(self.tokenizer(caption)["input_ids"])
        for n, (phrase, (score, _)) in enumerate(self._told.items()):
            if phrase in words:
                logits[:, n, words.index(phrase)] = torch.logit(torch.tensor(score))
        logits[image.amax((1, 2, 3)) == 0] = -9.0
        return logits, torch.tensor([box for _, box in self._told.values()]).expand(
            len(image), -1, 4
        )


class Boxes:
    """The whole box is the mask."""

    def to(self, device: torch.device) -> None: ...

    def masks(self, image: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        height, width = image.shape[1:]
        y, x = (torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width
        left, top, right, bottom = (side[:, None] for side in boxes.unbind(1))
        rows, columns = (y > top) & (y < bottom), (x > left) & (x < right)
        return rows[:, :, None] & columns[:, None]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return AutoTokenizer.from_pretrained(tiny_grounding.write_text(tmp_path_factory.mktemp("text")))


TOLD = {  # centre and size
    "sky": (0.8, [0.5, 0.25, 1.0, 0.5]),
    "person": (0.9, [0.25, 0.5, 0.5, 1.0]),
    "window": (0.4, [0.5, 0.5, 1.0, 1.0]),
}
WHITE, BLACK = Image.new("RGB", (60, 30), "white"), Image.new("RGB", (60, 30))


def asked(tokenizer: Any, *images: Image.Image, **settings: Any) -> Answer:
    asker = SemanticAsker(Inner(), Finder(tokenizer, TOLD), Boxes(), shortest=64, **settings)
    assert isinstance(asker, Asker)
    assert asker.space is Space.AFFINE_DISPARITY
    views = [asker.views(image) for image in images]
    return asker.ask([torch.stack(same) for same in zip(*views, strict=True)])


def test_the_surest_has_the_pixel_and_the_values_stay(tokenizer: Any):
    answer = asked(tokenizer, WHITE, BLACK, classes=("window", "person"))
    inner = Inner().ask([torch.zeros(2, 3, 14, 28)])
    assert torch.equal(answer.values, inner.values)
    assert answer.agreement.keys() == {"flip"}
    assert answer.far is not None
    assert answer.classes is not None
    far, classes = torch.zeros(14, 28, dtype=torch.bool), torch.ones(14, 28, dtype=torch.uint8)
    far[:7, 14:] = True  # the person stands before the left half of the sky
    classes[:, :14] = 2
    classes[:7, 14:] = 0  # sky is no class here
    assert torch.equal(answer.far[0], far)
    assert torch.equal(answer.classes[0], classes)
    assert not answer.far[1].any()
    assert not answer.classes[1].any()
    assert answer.classes.dtype == torch.uint8


class Tags:
    """Says what each image shows by its brightness: a bright one a person, a dark one nothing."""

    def to(self, device: torch.device) -> None: ...

    def check(self, phrases: Sequence[str]) -> None:
        if "mirror" in phrases:
            raise ValueError("no mirror here")

    def probabilities(self, images: torch.Tensor, phrases: Sequence[str]) -> torch.Tensor:
        person = torch.tensor([float(phrase == "person") for phrase in phrases])
        return images.mean((1, 2, 3))[:, None] * person


def test_nobody_looks_for_what_the_tagger_does_not_see(tokenizer: Any):
    grey = Image.new("RGB", (60, 30), (100, 100, 100))
    answer = asked(tokenizer, WHITE, grey, classes=("person",), tagger=Tags(), tag_threshold=0.5)
    assert answer.far is not None
    assert answer.classes is not None
    assert not answer.far.any()  # the finder would find sky in both
    assert answer.classes[0, :, :14].all()
    assert not answer.classes[1].any()
    with pytest.raises(ValueError, match="no mirror here"):
        asked(tokenizer, WHITE, classes=("mirror",), tagger=Tags())


def test_more_phrases_than_one_text_holds(tokenizer: Any):
    """The surest of all texts has the pixel."""
    strange = [f"{a} {b}" for a in ("red", "a", "light", "mirror") for b in range(40)]
    answer = asked(tokenizer, WHITE, classes=(*strange, "person"))
    few = asked(tokenizer, WHITE, classes=("person",))
    assert answer.far is not None
    assert few.far is not None
    assert answer.classes is not None
    assert few.classes is not None
    assert torch.equal(answer.far, few.far)
    assert torch.equal(answer.classes, few.classes * (len(strange) + 1))


def test_sky_may_be_a_class_too_and_classes_may_be_none(tokenizer: Any):
    both = asked(tokenizer, WHITE, classes=("person", "sky"))
    assert both.far is not None
    assert both.classes is not None
    assert torch.equal(both.far, both.classes == 2)
    assert asked(tokenizer, WHITE).classes is None
    assert asked(tokenizer, WHITE, sky=None, classes=("person",)).far is None


def test_masks_are_picked_at_pixel_centres(tokenizer: Any):
    """As `transforms.resized` picks targets: the finder's image is 64 x 96 for 64 x 100 or so."""
    told = {"sky": (0.9, [0.5, 0.3, 1.0, 0.5])}
    finder = Finder(tokenizer, told)
    asker = SemanticAsker(Inner(), finder, Boxes(), shortest=64)
    views = asker.views(WHITE)
    answer = asker.ask([view[None] for view in views])
    mask = Boxes().masks(views[1], torch.tensor([[0.0, 0.05, 1.0, 0.55]]))[0]
    rows, columns = _nearest(mask.shape[0], 14), _nearest(mask.shape[1], 28)
    assert answer.far is not None
    assert torch.equal(answer.far[0], mask[rows][:, columns])


def test_what_cannot_be_asked(tokenizer: Any):
    finder = Finder(tokenizer, TOLD)
    with pytest.raises(ValueError, match="256 classes; a class plane of 8 bits holds 255"):
        SemanticAsker(Inner(), finder, Boxes(), classes=[str(n) for n in range(256)])
    with pytest.raises(ValueError, match="give one or more"):
        SemanticAsker(Inner(), finder, Boxes(), sky=None)
    with pytest.raises(ValueError, match="none empty"):
        SemanticAsker(Inner(), finder, Boxes(), classes=["person", ""])


def test_a_strategy_of_a_job(tmp_path: Any, tokenizer: Any):
    """The networks themselves, tiny and random, on a batch."""
    from transformers import GroundingDinoForObjectDetection

    from tests.models.test_hq_sam import tiny

    model = GroundingDinoForObjectDetection(tiny_grounding.config())
    model.save_pretrained(tmp_path / "finder")
    tokenizer.save_pretrained(tmp_path / "finder")
    strategy = partial(
        with_semantics,
        strategy=lambda teachers: Inner(),
        finder=tmp_path / "finder",
        masks=tiny(tmp_path / "masks"),
        classes=("person",),
        box_threshold=0.0,
        text_threshold=0.0,
    )
    asker = strategy([])
    asker._shortest = 64
    views = [asker.views(WHITE), asker.views(Image.new("RGB", (60, 30), "grey"))]
    answer = asker.ask([torch.stack(same) for same in zip(*views, strict=True)])
    assert answer.far is not None
    assert answer.classes is not None
    assert answer.far.shape == answer.classes.shape == (2, 14, 28)
    assert answer.far.any() or answer.classes.any()
    assert not (answer.far & (answer.classes > 0)).any()


def test_a_label_job_keeps_sky_classes_and_what_found_them(tmp_path):
    photos = tiny_teacher.write_photos(tmp_path / "photos", 2)
    finder = GroundingDinoForObjectDetection(tiny_grounding.config())
    tiny_grounding.randomise(finder, torch.Generator().manual_seed(0))
    finder.save_pretrained(tmp_path / "finder")
    tiny_grounding.write_text(tmp_path / "text")
    AutoTokenizer.from_pretrained(tmp_path / "text").save_pretrained(tmp_path / "finder")
    masks = tiny_hq_sam.tiny(tmp_path / "masks")
    tagger = tiny_tagger.write_siglip(tmp_path / "tagger")
    strategy = partial(
        with_semantics,
        finder=tmp_path / "finder",
        masks=masks,
        tagger=tagger,
        classes=("mirror",),
        box_threshold=0.0,
        text_threshold=0.0,
        tag_threshold=0.0,
    )
    job = tiny_teacher.job(photos, strategy=strategy)
    job.run(tmp_path / "store")
    store = LabelStore(tmp_path / "store")
    assert store.verify() == 2
    assert store.meta.classes == ("mirror",)
    made = [lineage.from_json(helper) for helper in store.meta.helpers]
    assert [part.name for part in made] == [str(tmp_path / "finder"), str(masks), str(tagger)]
    assert len({part.sha256 for part in made}) == 3
    planes = [store.read(key).planes for key in store.keys()]  # noqa: SIM118 no dictionary
    assert all(plane.far is not None and plane.classes is not None for plane in planes)
    assert None not in store.index["far"].to_pylist()
    images = ImageFolder(photos)
    chain = [part.name for part in of_labels(store, images).made_from]
    assert chain == ["tiny", str(tmp_path / "finder"), str(masks), str(tagger), "photos"]
    assert len(PseudoLabelled(images, tmp_path / "store")) == 2
    tiny_grounding.randomise(finder, torch.Generator().manual_seed(1))
    finder.save_pretrained(tmp_path / "finder")
    with pytest.raises(ValueError, match="helpers: store"):
        job.run(tmp_path / "store", resume=True)
