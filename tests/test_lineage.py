"""What models are made of: written, read back, and refused where it may not be used."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distill import lineage
from distill.licences import CommercialUse, commercial_use, published, stated
from distill.lineage import Lineage, from_json, of_model, require_commercial


def chain(licence: str | None, *, photos: str | None = "cc-by-4.0") -> Lineage:
    """student <- labels <- teacher, a student itself <- labels <- its teacher with `licence`."""
    root = Lineage(kind="model", name="someone/root", sha256="1" * 64, licence=licence)
    images = Lineage(kind="data set", name="photos", licence=photos)
    first = Lineage(kind="labels", name="runs/first", made_from=(root, images))
    middle = Lineage(kind="model", name="runs/middle/model", sha256="2" * 64, made_from=(first,))
    second = Lineage(kind="labels", name="runs/second", made_from=(middle, images))
    encoder = Lineage(kind="model", name="facebook/dinov2-small", licence="apache-2.0")
    return Lineage(kind="model", name="student", made_from=(encoder, second))


def test_a_clean_chain_may_be_used():
    require_commercial(chain("apache-2.0"))


@pytest.mark.parametrize(
    ("licence", "terms"),
    [
        ("cc-by-nc-4.0", "cc-by-nc-4.0, non-commercial"),
        ("other", "other, unclear"),
        ("openrail", "openrail, unclear"),
        (None, "no licence known"),
    ],
)
def test_a_root_three_steps_upstream_is_refused_with_the_way_to_it(licence: str | None, terms: str):
    with pytest.raises(ValueError, match=r"terms of 1 part\(s\)") as refused:
        require_commercial(chain(licence))
    way = (
        "  this model <- labels runs/second <- model runs/middle/model <- labels runs/first <- "
        f"model someone/root ({terms})\n"
    )
    assert way in str(refused.value)
    assert '--set accept="NAME, NAME"' in str(refused.value)


def test_every_part_that_is_refused_is_named_once():
    with pytest.raises(ValueError, match=r"of 2 part\(s\)") as refused:
        require_commercial(chain("cc-by-nc-sa-3.0", photos=None))
    assert str(refused.value).count("data set photos (no licence known)") == 1


def test_accepting_a_name_takes_it_and_nothing_else():
    require_commercial(chain("cc-by-nc-4.0"), accept=["someone/root"])
    with pytest.raises(ValueError, match="<- data set photos"):
        require_commercial(chain("cc-by-nc-4.0", photos=None), accept=["someone/root"])
    with pytest.raises(ValueError, match="accept: rot is no part of this model; there are faceb"):
        require_commercial(chain("mit"), accept=["rot"])


def test_a_licence_of_its_own_does_not_hide_what_is_upstream():
    made = chain("cc-by-nc-4.0")
    encoder, labels = made.made_from
    middle, images = labels.made_from
    relabelled = replace(labels, made_from=(replace(middle, licence="apache-2.0"), images))
    with pytest.raises(ValueError, match="someone/root"):
        require_commercial(replace(made, made_from=(encoder, relabelled)))


def test_labels_of_nothing_are_unknown():
    empty = Lineage(kind="labels", name="runs/labels")
    with pytest.raises(ValueError, match="labels runs/labels \\(no licence known"):
        require_commercial(Lineage(kind="model", name="student", made_from=(empty,)))


@pytest.mark.parametrize(
    ("licence", "use"),
    [
        *[(name, CommercialUse.YES) for name in ("apache-2.0", "MIT", "cc-by-sa-4.0")],
        *[(f"cc-by-nc{rest}", CommercialUse.NO) for rest in ("-4.0", "-sa-3.0", "-nd-4.0", "")],
        ("apple-amlr", CommercialUse.NO),
        *[(name, CommercialUse.ASK) for name in (None, "", "other", "cc-by-nd-4.0", "unheard-of")],
        ("mit and cc-by-nc-4.0", CommercialUse.ASK),
        ("xcc-by-nc-4.0x", CommercialUse.ASK),
    ],
)
def test_licences_by_name(licence: str | None, use: CommercialUse):
    assert commercial_use(licence) is use


def test_json_and_back():
    made = chain("cc-by-nc-4.0")
    assert from_json(json.loads(json.dumps(made.as_json()))) == made
    assert len(list(made.chains())) == 8


def test_a_part_that_comes_twice_is_kept_once():
    part = Lineage(kind="data set", name="photos")
    assert Lineage(kind="model", name="student", made_from=(part, part)).made_from == (part,)


def deep(steps: int) -> dict[str, Any]:
    plain: dict[str, Any] = {"kind": "model", "name": "root", "sha256": None, "licence": None}
    made = plain | {"made_from": []}
    for _ in range(steps):
        made = plain | {"made_from": [made]}
    return made | {"format": 1}


GOOD = deep(1)


@pytest.mark.parametrize(
    "plain",
    [
        None,
        [],
        {},
        GOOD | {"format": 2},
        GOOD | {"more": 1},
        {name: GOOD[name] for name in GOOD if name != "licence"},
        GOOD | {"kind": "recipe"},
        GOOD | {"kind": ["model"]},
        GOOD | {"name": None},
        GOOD | {"name": ""},
        GOOD | {"name": "a\n---\nlicense: mit"},
        GOOD | {"name": "x" * 1001},
        GOOD | {"sha256": "1" * 63},
        GOOD | {"sha256": 1},
        GOOD | {"licence": ["mit"]},
        GOOD | {"made_from": {}},
        GOOD | {"made_from": [None]},
        GOOD | {"made_from": [GOOD]},
        deep(100),
        GOOD | {"made_from": [deep(0) | {}] * 3},
    ],
)
def test_json_that_was_tampered_with_is_refused(plain: Any):
    with pytest.raises(ValueError, match="lineage: "):
        from_json(plain)


def test_json_of_too_many_parts_is_refused():
    leaf = {"kind": "model", "name": "n", "sha256": None, "licence": None, "made_from": []}
    with pytest.raises(ValueError, match="10000 parts"):
        from_json(leaf | {"format": 1, "made_from": [leaf] * 10_000})


@pytest.mark.parametrize("text", ["", "{", '{"format": 1}', "[" * 100_000])
def test_a_damaged_file_is_named(tmp_path: Path, text: str):
    (tmp_path / lineage.FILE).write_text(text)
    with pytest.raises(ValueError, match=r"lineage\.json: .*counts as unknown"):
        of_model(tmp_path)


def test_a_model_without_anything_is_unknown(tmp_path: Path):
    assert of_model(tmp_path) == Lineage(kind="model", name=str(tmp_path))
    assert of_model(tmp_path, sha256="1" * 64, licence="mit").licence == "mit"
    assert of_model("never/heard").licence is None
    assert of_model(tmp_path / "no folder/x").licence is None


def test_a_model_that_is_well_known_needs_no_card():
    assert of_model("facebook/dinov2-small").licence == "apache-2.0"
    assert published("depth-anything/Depth-Anything-V2-Large-hf") == "cc-by-nc-4.0"


def test_a_card_alone_tells_the_licence(tmp_path: Path):
    (tmp_path / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    assert of_model(tmp_path, licence="mit").licence == "cc-by-nc-4.0"


def test_a_card_that_a_person_edited_goes_before_the_file(tmp_path: Path):
    made = replace(chain("mit"), licence=None)
    (tmp_path / lineage.FILE).write_text(json.dumps(made.as_json()))
    card = tmp_path / "README.md"
    card.write_text("---\nlicense: other\n---\n")
    assert of_model(tmp_path, licence="other") == replace(made, name=str(tmp_path))
    card.write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    assert of_model(tmp_path).licence == "cc-by-nc-4.0"


@pytest.mark.parametrize(
    ("text", "licence"),
    [
        ("---\nlicense: mit\n---\n", "mit"),
        ("---\nlicense: [mit, cc-by-nc-4.0]\n---\n", "mit and cc-by-nc-4.0"),
        ("---\ntags: [depth]\n---\n", None),
        ("no front matter", None),
        ("---\nlicense: [\n---\n", None),
        ("---\n- mit\n---\n", None),
    ],
)
def test_what_a_card_states(tmp_path: Path, text: str, licence: str | None):
    card = tmp_path / "README.md"
    card.write_text(text)
    assert stated(card) == licence
    assert stated(tmp_path / "gone.md") is None
