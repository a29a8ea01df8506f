"""The colours of the report. Figures are drawn in the light ones; the page replaces each by its dark twin."""

LIGHT = {
    "page": "#fdfdfb",
    "card": "#f5f5f1",
    "ink": "#1d1f24",
    "muted": "#62666f",
    "line": "#e3e3dd",
    "faint": "#b4b7bd",
    "slate": "#7a8699",
    "baseline": "#474b54",
    "fail": "#c4392b",
    "series-1": "#2a62c9",
    "series-2": "#c8691c",
    "series-3": "#0e8577",
    "series-4": "#8a4fbf",
    "series-5": "#b8406e",
    "series-6": "#77791a",
}
DARK = {
    "page": "#141518",
    "card": "#1d1f23",
    "ink": "#e9e8e4",
    "muted": "#a0a3ab",
    "line": "#30333a",
    "faint": "#5f646e",
    "slate": "#8792a5",
    "baseline": "#c9ccd2",
    "fail": "#ff7d6e",
    "series-1": "#79a7ff",
    "series-2": "#f2a35e",
    "series-3": "#4fcbb9",
    "series-4": "#c39bf2",
    "series-5": "#f08aae",
    "series-6": "#c9c65a",
}
SYMBOLS = ("circle", "square", "triangle-up", "pentagon", "star", "hexagon")


def dark_twins() -> dict[str, str]:
    """Each light colour's dark one. No light colour stands twice."""
    return {LIGHT[name]: DARK[name] for name in LIGHT}


def model_style(model: str, models: list[str]) -> tuple[str, str]:
    """Colour and symbol of a model among those of the finals (the baseline and finalists in the page's order)."""
    if model == "baseline":
        return LIGHT["baseline"], "diamond"
    place = [name for name in models if name != "baseline"].index(model) % len(SYMBOLS)
    return LIGHT[f"series-{place + 1}"], SYMBOLS[place]
