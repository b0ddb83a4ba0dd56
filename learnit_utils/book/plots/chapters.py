"""The chapters and how one leads to the next."""

from matplotlib.figure import Figure

from learnit_utils.book import _drawing

CHAPTERS = (  # text, column, row, kind of box
    ("0  Two steps\na face, at once", 0, 0, "goal"),
    ("1  SIREN\nthe field " + r"$f_\theta$", 1, 0, "weights"),
    ("2  Spectral bias\nwhat comes first", 2, 0, "weights"),
    ("3  MAML and Reptile\nthe start " + r"$\theta_0$", 2, 1, "weights"),
    ("4  Class priors\nwhat a start knows", 1, 1, "weights"),
    ("5  Kernel as dictionary\nwhy two steps do", 0, 1, "weights"),
    ("6  Tomography\nfrom shadows", 0, 2, "weights"),
    ("7  Objects\nfrom one photograph", 1, 2, "weights"),
    ("8  A landmark\nin any light", 2, 2, "weights"),
    ("scoreboard\nwhat held", 2, 3, "data"),
)
BACKGROUND = (  # in any order after chapter 3; the same form
    ("9  Shared networks\nother ways to share", 0, 4, "plain"),
    ("10  Few-shot learning\nwhere the loops come from", 1, 4, "plain"),
    ("11  Optimizers\nby hand, and learned", 2, 4, "plain"),
)
QUESTIONS = (  # what leads from one to the next
    "what is fitted",
    "in what order",
    "from where",
    "for whom",
    "why",
    "of what is unseen",
    "in three dimensions",
    "in every light",
    "",
)


def map_of_chapters() -> Figure:
    """The chapters in their order, with the question that leads from each to the next."""
    boxes = {str(i): box for i, box in enumerate(CHAPTERS)}
    boxes |= {f"background {i}": box for i, box in enumerate(BACKGROUND)}
    return _drawing.flow(boxes, [(str(i), str(i + 1), q) for i, q in enumerate(QUESTIONS)])
