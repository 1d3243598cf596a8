"""Pieces of HTML that several tabs use. Every text that comes from outside is escaped here."""

from html import escape

from chipdemo.inspection import ModelInfo
from chipdemo.rates import Rate


def header_html(info: ModelInfo) -> str:
    """The header of the page, which names the model."""
    parts = f"{info.backbone} + {info.attention.upper()}" if info.attention != "none" else info.backbone
    return (
        "<header class='chip-header'><h1>Chip Inspector</h1>"
        f"<p>model <strong>{escape(info.name)}</strong> <code>{escape(info.revision)}</code>"
        f"<span class='made'> · {escape(parts)}, trained on {escape(info.data)}, "
        f"{escape(info.data_license)} · runs on {escape(info.runtime)}</span></p></header>"
    )


def rate_html(rate: Rate, images: str) -> str:
    """As Rate.of: the counts stand out, the uncertainty stays in one piece."""
    return f"<strong>{rate}</strong> {images} <small class='uncertainty'>({rate.uncertainty})</small>"


def refused_html(message: str, css_class: str) -> str:
    """Why something was not done, for screen readers too."""
    return f"<p class='{css_class}' role='alert'>{escape(message)}</p>"
