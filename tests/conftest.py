"""Test modules import the shared `contracts`, `scenes` and miniatures of data sets by name."""

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "datasets"))
sys.path.insert(0, str(Path(__file__).parent))
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# listings that tests make are kept nowhere near the user's own
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="distill-tests-")
atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)
