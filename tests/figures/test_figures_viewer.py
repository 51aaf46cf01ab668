import re
from html import unescape
from pathlib import Path

import numpy as np

from bmapest_ray.figures.viewer import THICK, _thick, save_viewer

AFFINE = np.diag([3.0, 3.0, 3.0, 1.0])


def test_a_viewer_is_one_page_per_tissue_and_loads_nothing(tmp_path: Path) -> None:
    maps = np.random.default_rng(0).random((3, 16, 16)).astype(np.float32)
    path = tmp_path / "viewer.html"
    save_viewer(maps, maps[0], AFFINE, ("GM", "WM", "CSF"), path, "sub-1 & <t1inv>")
    page = path.read_text()
    assert "<h1>sub-1 &amp; &lt;t1inv&gt;</h1>" in page
    frames = [unescape(text) for text in re.findall(r'srcdoc="([^"]*)"', page)]
    assert len(frames) == 3
    for frame in frames:
        assert not re.search(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//""", frame)
        assert "brainsprite" in frame
    assert len(page) < 2e6


def test_a_slice_is_made_thick_around_where_it_is() -> None:
    image = _thick(np.arange(12, dtype=np.float32).reshape(3, 4), AFFINE)
    assert image.shape == (4, 3, THICK)  # type: ignore[attr-defined]
    middle = image.affine @ [2, 1, THICK // 2, 1]  # type: ignore[attr-defined]
    np.testing.assert_allclose(middle, AFFINE @ [2, 1, 0, 1])
