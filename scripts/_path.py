"""Importing this first lets a script run from any folder, also where the packages are not installed."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
