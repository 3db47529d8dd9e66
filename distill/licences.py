"""Which licences let a model be used commercially, as far as their name tells.

Names are those of Hugging Face's model and data set cards (hf.co/docs/hub/repositories-licenses).
This is a table to be asked before a run, not advice on law: what is not known here is asked for.
"""

import logging
import re
from enum import Enum
from pathlib import Path

import yaml
from huggingface_hub import metadata_load

log = logging.getLogger(__name__)

NON_COMMERCIAL = "non-commercial"
"""Terms of a data set's own, without a name on the hub, that forbid commercial use."""

_YES = {
    *("apache-2.0", "mit", "bsd", "bsd-2-clause", "bsd-3-clause", "bsd-3-clause-clear", "isc"),
    *("cc0-1.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "unlicense", "zlib", "wtfpl"),
    *("cc-by-sa-3.0", "cc-by-sa-4.0", "bsl-1.0", "ms-pl", "mpl-2.0", "ncsa", "postgresql"),
    *("gpl", "gpl-2.0", "gpl-3.0", "lgpl", "lgpl-2.1", "lgpl-3.0", "agpl-3.0", "epl-2.0"),
    *("odc-by", "odbl", "pddl", "etalab-2.0", "ecl-2.0", "artistic-2.0", "eupl-1.2"),
    *("cdla-permissive-1.0", "cdla-permissive-2.0", "cdla-sharing-1.0"),
}  # share-alike and copyleft allow it too; what else they ask for stands in their text
_NO = {
    *(NON_COMMERCIAL, "apple-amlr", "intel-research", "research-only"),
    *("fair-noncommercial-research-license", "h-research"),
}
_PUBLISHED = {  # where no model card is at hand. DINOv2 and Depth Anything: their repositories'
    **{f"facebook/dinov2-{size}": "apache-2.0" for size in ("small", "base", "large", "giant")},
    **{f"LiheYoung/depth-anything-{size}-hf": "apache-2.0" for size in ("small", "base", "large")},
    "depth-anything/Depth-Anything-V2-Small-hf": "apache-2.0",
    "depth-anything/Depth-Anything-V2-Base-hf": "cc-by-nc-4.0",
    "depth-anything/Depth-Anything-V2-Large-hf": "cc-by-nc-4.0",
    "apple/DepthPro-hf": "apple-amlr",
}


class CommercialUse(Enum):
    """Whether terms allow commercial use; `ASK` where a person has to read them."""

    YES = "allowed"
    NO = "non-commercial"
    ASK = "unclear"


def commercial_use(licence: str | None) -> CommercialUse:
    """What the name of a licence says; anything unknown, also "other", is `ASK`.

    The use-based restrictions of OpenRAIL and the like are for a person to read.
    """
    name = (licence or "").strip().lower()
    if name in _YES:
        return CommercialUse.YES
    if name in _NO or re.fullmatch(r"cc-by-nc(-sa|-nd)?(-\d\.\d)?", name):
        return CommercialUse.NO
    return CommercialUse.ASK


def stated(card: Path | None) -> str | None:
    """The `license` in the front matter of a model or data set card, a README.md.

    None where there is no card or it is silent. Of several licences, all names in one.
    """
    if card is None or not card.is_file():
        return None
    try:
        licence = (metadata_load(card) or {}).get("license")
    except (ValueError, yaml.YAMLError) as error:
        log.warning("%s: its front matter cannot be read, so no licence is known: %s", card, error)
        return None
    several = licence if isinstance(licence, list) else [licence]
    return " and ".join(str(one) for one in several if one) or None


def published(model: str) -> str | None:
    """The licence under which the owners of a hub id publish it; None for others than a few."""
    return _PUBLISHED.get(model)
