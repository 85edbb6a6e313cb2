"""Draws the pictures of the user guide as SVG.

``python docs/drawings.py FOLDER`` writes them; ``conf.py`` does it before each build.
Colours are variables of the theme, so that a drawing follows its light and dark mode. A
page takes a drawing with ``.. raw:: html`` and ``:file:``.
"""

import json
import sys
from collections import defaultdict
from html import escape
from pathlib import Path
from statistics import fmean

RESULTS = Path(__file__).parents[1] / "benchmarks" / "suite" / "results.jsonl"
DATA_SETS = {
    "ml-100k": "MovieLens 100k, last fifth",
    "ml-100k-random": "MovieLens 100k, random fifth",
    "ml-1m": "MovieLens 1M, random fifth",
    "ml-latest-small": "bundled films, last fifth",
    "retail-first": "a shop, first purchases",
    "retail-repeats": "a shop, all purchases",
    "beauty": "reviews of beauty products",
    "toys": "reviews of toys",
}

TEXT = "var(--pst-color-text-base, #222)"
MUTED = "var(--pst-color-text-muted, #666)"
LINE = "var(--pst-color-border, #bbb)"
SURFACE = "var(--pst-color-surface, #f3f4f5)"
USER, ITEM = "#3b7dd8", "#e07b39"
HELD_OUT = "#c0392b"


class Drawing:
    """Shapes and words on a canvas of so many pixels, as one SVG element."""

    def __init__(self, title, width, height):
        self.title, self.width, self.height = title, width, height
        self.parts = []

    def add(self, tag, content="", **attributes):
        """Add an element; underscores in names of attributes stand for hyphens."""
        described = "".join(
            f' {name.rstrip("_").replace("_", "-")}="{value}"'
            for name, value in attributes.items()
        )
        self.parts.append(f"<{tag}{described}>{content}</{tag}>")

    def text(self, x, y, words, *, size=14, color=TEXT, anchor="middle", bold=False):
        """Words, one line each, the first centred at y."""
        for n, line in enumerate(words.split("\n")):
            self.add(
                "text",
                escape(line),
                x=x,
                y=y + n * size * 1.25,
                font_size=size,
                text_anchor=anchor,
                dominant_baseline="central",
                font_weight="bold" if bold else "normal",
                style=f"fill: {color}",
            )

    def box(self, x, y, width, height, words="", *, color=LINE, fill=SURFACE, size=14):
        """A box, with words in its middle."""
        style = f"fill: {fill}; stroke: {color}"
        rx = min(6, width / 6)
        self.add(
            "rect",
            x=x,
            y=y,
            width=width,
            height=height,
            rx=rx,
            stroke_width=1.5,
            style=style,
        )
        n_lines = words.count("\n") + 1
        top = y + height / 2 - (n_lines - 1) * size * 0.625
        self.text(x + width / 2, top, words, size=size)

    def dot(self, x, y, *, color, filled=True, radius=7):
        """A dot, or a ring."""
        fill = color if filled else "none"
        self.add("circle", cx=x, cy=y, r=radius, fill=fill, stroke=color, stroke_width=2)

    def arrow(self, *points, words="", dashed=False, color=MUTED, above=10):
        """An arrow along points, with words above the middle of its first piece."""
        path = "M" + " L".join(f"{x} {y}" for x, y in points)
        dashes = {"stroke_dasharray": "5 4"} if dashed else {}
        self.add(
            "path",
            d=path,
            stroke_width=1.5,
            marker_end="url(#head)",
            style=f"fill: none; stroke: {color}",
            **dashes,
        )
        if words:
            (x, y), (x2, y2) = points[:2]
            self.text((x + x2) / 2, (y + y2) / 2 - above, words, size=12, color=MUTED)

    def line(self, x, y, x2, y2, *, color=LINE, dashed=False):
        """A line without a head."""
        dashes = {"stroke_dasharray": "5 4"} if dashed else {}
        style = f"stroke: {color}"
        self.add("line", x1=x, y1=y, x2=x2, y2=y2, stroke_width=1.5, style=style, **dashes)

    def svg(self):
        """The element, which is as wide as the page at most."""
        head = (
            f'<svg class="drawing" role="img" viewBox="0 0 {self.width} {self.height}" '
            f'xmlns="http://www.w3.org/2000/svg" style="max-width: {self.width}px; '
            f'width: 100%; height: auto; font-family: sans-serif">'
            f"<title>{escape(self.title)}</title>"
            '<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" '
            'markerWidth="7" markerHeight="7" orient="auto-start-reverse">'
            f'<path d="M0 0 L10 5 L0 10 z" style="fill: {MUTED}"/></marker></defs>'
        )
        return "\n".join([head, *self.parts, "</svg>\n"])


def two_towers():
    """From fields to vectors to a score."""
    drawing = Drawing("A user tower and an item tower, and their dot product", 760, 400)
    sides = (
        (30, USER, ["id", "country", "history"], "user", "user vector  u"),
        (410, ITEM, ["id", "title", "price"], "item", "item vector  v"),
    )
    for left, color, fields, side, vector in sides:
        middle = left + 160
        drawing.text(middle, 385, f"fields of the {side}", size=13, color=MUTED)
        for n, field in enumerate(fields):
            x = left + n * 110
            drawing.box(x, 325, 100, 38, field)
            drawing.arrow((x + 50, 325), (x + 50, 287))
            for k in range(5):
                drawing.box(x + 12 + k * 16, 265, 14, 18, color=color, fill="none")
        drawing.text(
            middle, 245, "a vector for each field, side by side", size=12, color=MUTED
        )
        drawing.arrow((middle, 233), (middle, 207))
        drawing.box(left + 60, 165, 200, 40, f"{side} tower: layers", color=color)
        drawing.arrow((middle, 165), (middle, 137))
        for k in range(8):
            drawing.box(middle - 64 + k * 16, 115, 14, 18, color=color, fill=color)
        drawing.text(middle + (-150 if side == "user" else 150), 124, vector, size=13)
    drawing.arrow((190, 113), (340, 62), color=USER)
    drawing.arrow((570, 113), (420, 62), color=ITEM)
    drawing.box(310, 20, 140, 42, "score = ⟨u, v⟩", size=15)
    return drawing


def batch_softmax():
    """The candidates of a batch, and the correction."""
    drawing = Drawing("A softmax over the items of a batch, and its correction", 760, 380)
    items = ["lantern", "mug", "candle", "clock"]
    shares = [0.9, 0.45, 0.25, 0.1]  # probability to be a candidate
    positives = {0: [0], 1: [0, 1], 2: [0, 2], 3: [3]}
    left, top, cell = 150, 60, 52
    for column, item in enumerate(items):
        x = left + column * cell * 1.5 + cell * 0.75
        drawing.text(x, top - 22, item, size=13)
        for row in range(4):
            hit = column in positives[row]
            y = top + row * cell
            color = ITEM if hit else LINE
            fill = ITEM if hit else SURFACE
            drawing.box(x - 34, y, 68, cell - 10, color=color, fill=fill)
            if hit:
                drawing.text(x, y + 21, "bought", size=12, color="#fff")
        height = 70 * shares[column]
        drawing.add(
            "rect", x=x - 16, y=355 - height, width=32, height=height, fill=MUTED, rx=3
        )
    for row in range(4):
        drawing.text(left - 20, top + row * cell + 21, f"user {row + 1}", anchor="end")
    drawing.text(left - 20, 330, "chance to be\nin a batch: q", size=13, anchor="end")
    x = left + 4 * cell * 1.5 + 20
    drawing.text(x, top + 15, "A row is a softmax over", anchor="start", size=13)
    drawing.text(x, top + 34, "the items of the batch:", anchor="start", size=13)
    drawing.text(x, top + 53, "score up where bought,", anchor="start", size=13)
    drawing.text(x, top + 72, "down elsewhere.", anchor="start", size=13)
    drawing.text(x, 300, "Popular items are candidates", anchor="start", size=13)
    drawing.text(x, 319, "more often. Subtracting log q", anchor="start", size=13)
    drawing.text(x, 338, "from the scores corrects it.", anchor="start", size=13)
    return drawing


def time_splits():
    """Four ways to hold rows out."""
    drawing = Drawing("Four ways to split interactions", 760, 420)
    rows = [[0, 2, 3, 7], [1, 4, 5, 6, 9], [3, 5, 8], [0, 6, 7, 8, 9]]
    panels = (
        ("LastInteractionsSplit: the last rows of each user", lambda u, k, t: k == -1),
        ("GlobalTimeSplit: all rows after a moment", lambda u, k, t: t >= 7),
        ("UserKFold: all rows of some users", lambda u, k, t: u == 2),
        ("ColdItemSplit: all rows of some items", lambda u, k, t: (u + t) % 4 == 3),
    )
    for n, (title, held_out) in enumerate(panels):
        left, top = 30 + n % 2 * 380, 40 + n // 2 * 195
        drawing.text(left, top - 18, title, anchor="start", size=13, bold=True)
        for user, times in enumerate(rows):
            y = top + 14 + user * 30
            drawing.text(left, y, f"user {user + 1}", anchor="start", size=12, color=MUTED)
            drawing.line(left + 50, y, left + 340, y)
            for k, at in enumerate(times):
                out = held_out(user, k - len(times), at)
                color = HELD_OUT if out else USER
                drawing.dot(left + 60 + at * 30, y, color=color, filled=not out)
        if n == 1:
            x = left + 60 + 6.5 * 30
            drawing.line(x, top, x, top + 120, color=HELD_OUT, dashed=True)
        drawing.arrow((left + 50, top + 134), (left + 340, top + 134))
        drawing.text(left + 340, top + 148, "time", size=12, color=MUTED, anchor="end")
    drawing.dot(300, 408, color=USER, radius=6)
    drawing.text(313, 408, "train", anchor="start", size=12)
    drawing.dot(390, 408, color=HELD_OUT, filled=False, radius=6)
    drawing.text(403, 408, "test", anchor="start", size=12)
    return drawing


def new_item():
    """The path of an item that has no rows."""
    drawing = Drawing(
        "The path of a new item, from its features to a recommendation", 760, 250
    )
    drawing.box(10, 70, 130, 56, "title, price, ...\nof a new item")
    drawing.arrow((140, 98), (190, 98))
    drawing.box(190, 70, 100, 56, "encoder\nof fit")
    drawing.arrow((290, 98), (340, 98))
    drawing.box(340, 56, 130, 84, "item tower\nwith the\nunknown id", color=ITEM)
    drawing.arrow((470, 98), (530, 98), words="vector")
    drawing.box(530, 70, 100, 56, "catalogue", color=ITEM)
    drawing.arrow((630, 98), (670, 98))
    drawing.box(670, 70, 84, 56, "recom-\nmended")
    drawing.text(405, 30, "id_dropout has trained this path", size=13, color=MUTED)
    drawing.text(215, 160, "add_items(frame): no training, milliseconds", size=13)
    drawing.box(530, 180, 224, 48, "first clicks and purchases")
    drawing.arrow((712, 126), (712, 180))
    drawing.arrow((530, 204), (405, 204), (405, 142))
    drawing.text(395, 204, "partial_fit: an id of its own", size=13, anchor="end")
    return drawing


def artefact():
    """From a fit to a service."""
    drawing = Drawing("The life of a model, from fit to a service", 760, 300)
    drawing.box(10, 60, 120, 56, "fit", color=USER)
    drawing.arrow((130, 88), (210, 88), words="save")
    drawing.box(
        210,
        40,
        170,
        96,
        "a folder:\nweights, ids, tables,\nparameters, a manifest,\nno pickle",
        size=13,
    )
    drawing.arrow((380, 88), (460, 88), words="load")
    drawing.box(460, 60, 120, 56, "a service", color=ITEM)
    drawing.arrow((580, 88), (650, 88))
    drawing.box(650, 60, 100, 56, "customers")
    drawing.arrow((700, 116), (700, 250), (130, 250), dashed=True)
    drawing.text(430, 236, "new interactions", size=12, color=MUTED)
    drawing.box(10, 222, 120, 56, "partial_fit", color=USER)
    drawing.arrow((70, 222), (70, 116))
    words = "every night, save again:\nreaders get the old model or the new one"
    drawing.text(82, 186, words, size=12, color=MUTED, anchor="start")
    drawing.arrow((115, 116), (115, 160), (460, 160))
    drawing.text(160, 150, "export_onnx", size=12, color=MUTED, anchor="start")
    drawing.box(460, 138, 190, 44, "ONNX graphs, without torch", size=13)
    return drawing


def results():
    """NDCG@10 relative to EASE, as the suite of benchmarks measured it."""
    found = defaultdict(list)
    for line in RESULTS.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row["part"] == "test" and row["metric"] == "ndcg@10":
            found[row["data"], row["model"]].append(row["metrics"]["ndcg@10"])
    height = 70 + 34 * len(DATA_SETS)
    drawing = Drawing("NDCG@10 of two towers and of EASE on eight data sets", 760, height)
    left, unit = 230, 280
    for n, (data, label) in enumerate(DATA_SETS.items()):
        y = 50 + 34 * n
        ease, towers = (fmean(found[data, model]) for model in ("EASE", "two-tower"))
        drawing.text(left - 12, y, label, size=13, anchor="end")
        width = unit * towers / ease
        drawing.add("rect", x=left, y=y - 10, width=round(width, 1), height=20, fill=ITEM)
        figures = f"{towers:.3f} against {ease:.3f}".replace("0.", ".")
        drawing.text(left + max(width, unit) + 10, y, figures, size=12, anchor="start")
    bottom = height - 20
    drawing.line(left + unit, 28, left + unit, bottom, color=TEXT, dashed=True)
    drawing.text(left + unit, 16, "EASE", size=13)
    drawing.text(left, 16, "two towers", size=13, anchor="start", color=ITEM)
    return drawing


def logo():
    """Two towers and what joins them."""
    drawing = Drawing("sktwotower", 64, 64)
    for x, color in ((6, USER), (40, ITEM)):
        for n in range(3):
            width = 18 - 4 * n
            drawing.add(
                "rect",
                x=x + 2 * n,
                y=42 - 16 * n,
                width=width,
                height=14,
                rx=3,
                fill=color,
            )
    drawing.add("path", d="M19 17 L45 17", stroke=MUTED, stroke_width=3)
    drawing.add("circle", cx=32, cy=17, r=5, fill="#7a5cc0")
    return drawing


DRAWINGS = {
    "two_towers": two_towers,
    "batch_softmax": batch_softmax,
    "time_splits": time_splits,
    "new_item": new_item,
    "artefact": artefact,
    "results": results,
    "logo": logo,
}


def main(folder):
    """Write all drawings."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in DRAWINGS.items():
        (folder / f"{name}.svg").write_text(draw().svg(), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
