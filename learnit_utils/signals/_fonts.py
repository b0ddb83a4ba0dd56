"""The fonts that come with matplotlib."""

from functools import cache
from pathlib import Path

from PIL import ImageFont

from learnit_utils.signals.base import DataError


@cache
def font(name: str, height: int) -> ImageFont.FreeTypeFont:
    """A font by the name of its file, so many pixels high.

    Raises:
        DataError: matplotlib here has no such font.
    """
    from matplotlib import get_data_path

    file = Path(get_data_path()) / "fonts" / "ttf" / f"{name}.ttf"
    try:
        return ImageFont.truetype(str(file), height, layout_engine=ImageFont.Layout.BASIC)
    except OSError:
        raise DataError(f"{file.name}: matplotlib has no such font here") from None
