"""Pieces of HTML that several tabs use. Every text that comes from outside is escaped here."""

from html import escape

from chipdemo.comparison import Refused
from chipdemo.inspection import ModelInfo
from chipdemo.rates import Rate

ABOUT = "Finds defects in images of chips, shows where they are, and learns from your labels."


def header_html(info: ModelInfo, refused: Refused | None = None) -> str:
    """The header of the page, which names the model, and a newer revision that did not take over."""
    parts = f"{info.backbone} + {info.attention.upper()}" if info.attention != "none" else info.backbone
    made = (
        f"{parts}, trained on {', '.join(filter(None, (info.data, info.data_license)))}",
        f"runs on {info.runtime}",
    )
    return (
        f"<header class='chip-header'><h1>Chip Inspector</h1><p class='about'>{ABOUT}</p>"
        f"<p>model <strong>{escape(info.name)}</strong> <code>{escape(info.revision)}</code>"
        f"<span class='made'> · {escape(' · '.join(made))}</span></p>"
        f"{_refused_revision(info, refused) if refused else ''}</header>"
    )


def _refused_revision(info: ModelInfo, refused: Refused) -> str:
    stays = f"{info.revision} stays in use."
    if info.comparison == refused.comparison:
        stays = "It is in use for lack of an earlier revision."
    return (
        f"<p class='refused' role='status'>{escape(refused.text)} {escape(stays)} "
        f"To accept it, run <code>{escape(refused.command)}</code></p>"
    )


def rate_html(rate: Rate, images: str) -> str:
    """As Rate.of: the counts stand out, the uncertainty stays in one piece."""
    return f"<strong>{rate}</strong> {images} <small class='uncertainty'>({rate.uncertainty})</small>"


def refused_html(message: str, css_class: str) -> str:
    """Why something was not done, for screen readers too."""
    return f"<p class='{css_class}' role='alert'>{escape(message)}</p>"
