"""The one order of the tissue axis."""

from typing import Final

TISSUES: Final[tuple[str, str, str]] = ("GM", "WM", "CSF")
"""Grey matter, white matter, cerebrospinal fluid: the order of every tissue axis."""

TISSUE_NAMES: Final[dict[str, str]] = {
    "GM": "grey matter",
    "WM": "white matter",
    "CSF": "cerebrospinal fluid",
}
"""What the abbreviations stand for, in words for tables and figures."""
