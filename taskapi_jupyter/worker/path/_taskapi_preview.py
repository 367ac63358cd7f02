"""What a task's result looks like in a notebook, for those who are shown it without unpickling it."""

import binascii
import io
import reprlib
import sys
import threading

LIMIT = 256 << 10  # bytes of all forms together, as JSON
PATIENCE = 10.0  # seconds for all of them: a result has been stored, and its job ends when this is over
TEXT = 20_000  # characters of the plain form
ENTRIES = 100  # of a list, a dict or a set that the plain form has

#: Forms by their media type, the best first, and the method that makes each.
METHODS = (
    ("text/html", "_repr_html_"),
    ("image/png", "_repr_png_"),
    ("image/jpeg", "_repr_jpeg_"),
    ("image/svg+xml", "_repr_svg_"),
    ("text/markdown", "_repr_markdown_"),
    ("text/latex", "_repr_latex_"),
)


def of(result, encode):
    """Return the forms of a result by their media type, images as base64, so far as they fit; none raises.

    ``encode`` makes JSON of a text, as bytes.
    """
    found = {}
    thread = threading.Thread(target=_look, args=(result, encode, found), daemon=True)
    thread.start()
    thread.join(PATIENCE)  # then it is left behind
    return dict([*found.items()])


def _look(result, encode, found):
    room = LIMIT - 64
    for forms in (_bundle, _figure, _methods, _plain):
        try:
            for media, value in forms(result):
                if isinstance(value, (bytes, bytearray)):
                    value = binascii.b2a_base64(value, newline=False).decode("ascii")  # noqa: PLW2901
                if not isinstance(value, str) or media in found:
                    continue
                size = len(encode(value)) + len(media) + 8
                if size <= room:
                    found[media] = value
                    room -= size
        except BaseException:  # whatever the result's own code raises
            pass


def _bundle(result):
    """Yield what the result's own bundle of forms has."""
    method = getattr(type(result), "_repr_mimebundle_", None)
    bundle = method(result) if method else None
    bundle = bundle[0] if isinstance(bundle, tuple) else bundle
    for media, _ in (*METHODS, ("text/plain", "")):
        if bundle and media in bundle:
            yield media, bundle[media]


def _figure(result):
    """Yield a figure of matplotlib, or that of axes and of grids, as a picture that fits."""
    figures = sys.modules.get("matplotlib.figure")
    if figures is None:
        return
    figure = result if isinstance(result, figures.Figure) else getattr(result, "figure", None)
    if isinstance(figure, figures.Figure):
        for dpi in (100, 50):
            picture = io.BytesIO()
            figure.savefig(picture, format="png", bbox_inches="tight", dpi=dpi)
            yield "image/png", picture.getvalue()


def _methods(result):
    """Yield what the result's own methods return."""
    for media, name in METHODS:
        method = getattr(type(result), name, None)
        try:
            value = method(result) if method else None
        except BaseException:  # others may work
            value = None
        yield media, value[0] if isinstance(value, tuple) else value


def _plain(result):
    """Yield its text, of which a long container shows the first entries."""
    short = reprlib.Repr()
    short.maxstring, short.maxother, short.maxlong = 2_000, TEXT, 200
    for kind in ("dict", "list", "tuple", "set", "frozenset", "deque", "array"):
        setattr(short, "max" + kind, ENTRIES)
    yield "text/plain", short.repr(result)[: 4 * TEXT]
