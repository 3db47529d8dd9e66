"""Every launch file parses as Accelerate reads it and says what its name says."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file

from distill.recipe import build
from pseudo_labels.generate import LabelJob
from recipes import labels

CLUSTERS = sorted((Path(__file__).parent.parent / "recipes" / "clusters").glob("*.yaml"))
EXPECTED = {  # name: kind, machines, processes
    "one_gpu": ("NO", 1, 1),
    "eight_gpus": ("MULTI_GPU", 1, 8),
    "eight_gpus_fsdp": ("FSDP", 1, 8),
    "teacher_vitg_4x8": ("FSDP", 4, 32),
    "labelling_4x8": ("MULTI_GPU", 4, 32),
    "two_cpu_processes": ("MULTI_GPU", 1, 2),
}


SCRIPTS = sorted((Path(__file__).parent.parent / "recipes" / "clusters").glob("*.sh"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_scripts_are_short_and_parse(path: Path):
    subprocess.run(["bash", "-n", str(path)], check=True)
    assert path.stat().st_mode & 0o111
    text = path.read_text()
    assert "set -euo pipefail" in text
    assert len(text.splitlines()) <= 60
    if linter := shutil.which("shellcheck"):
        subprocess.run([linter, str(path)], check=True)


def test_the_script_cuts_weights_as_the_launch_file_does():
    """torchrun sets nothing of what Accelerate makes of a launch file; the script does."""
    script = next(path for path in SCRIPTS if path.stem == "torchrun_train").read_text()
    config = load_config_from_file(str(next(p for p in CLUSTERS if p.stem == "teacher_vitg_4x8")))
    assert isinstance(config, ClusterConfig)
    named = {"transformer_layer_cls_to_wrap": "TRANSFORMER_CLS_TO_WRAP"}
    for key, value in (config.fsdp_config or {}).items():
        name = key.removeprefix("fsdp_")
        told = str(value).lower() if isinstance(value, bool) else str(value)
        if name != "activation_checkpointing":  # off by default
            assert f"FSDP_{named.get(name, name.upper())}={told}" in script


def test_every_file_is_expected():
    assert {path.stem for path in CLUSTERS} == set(EXPECTED)


@pytest.mark.parametrize("path", CLUSTERS, ids=lambda path: path.stem)
def test_launch_file(path: Path):
    config = load_config_from_file(str(path))
    assert isinstance(config, ClusterConfig)
    kind = getattr(config.distributed_type, "value", config.distributed_type)
    assert (kind, config.num_machines, config.num_processes) == EXPECTED[path.stem]
    assert config.use_cpu is False  # true would make each process believe it is alone
    assert config.mixed_precision is None  # jobs choose, and a launch file would seem to
    # a recipe that wants it asks the network itself, and two wrappers would nest
    assert not (config.fsdp_config or {}).get("fsdp_activation_checkpointing")


def test_the_labelling_command_sets_the_field_that_decides():
    text = next(path for path in CLUSTERS if path.stem == "labelling_4x8").read_text()
    assert re.search(r"distill run recipes\.labels:plain .*\\\n# +--set dtype=bfloat16\n", text)
    job, _ = build(labels.plain, data=Path("photos"), settings={"dtype": "bfloat16"})
    assert isinstance(job, LabelJob)
    assert job.dtype == "bfloat16"


@pytest.mark.parametrize("name", ["teacher_vitg_4x8", "eight_gpus_fsdp"])
def test_fsdp_wraps_the_encoder_blocks(name: str):
    from transformers.models.dinov2 import modeling_dinov2

    path = next(path for path in CLUSTERS if path.stem == name)
    config = load_config_from_file(str(path))
    assert isinstance(config, ClusterConfig)
    assert config.fsdp_config
    assert hasattr(modeling_dinov2, config.fsdp_config["fsdp_transformer_layer_cls_to_wrap"])
