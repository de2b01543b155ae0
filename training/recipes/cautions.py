"""What is no error in a recipe and should still be known before a run of it begins."""

from training.recipes.model import LOSS_OPTIONS, Recipe

SAME_ENGINE, NOWHERE = "local", ""
"""Publishers to the engine in the trainer's own process, and to nobody."""


def cautions(recipe: Recipe) -> tuple[str, ...]:
    """Sentences for whoever starts a run; empty where there is nothing to be said."""
    others = _other_engines(recipe)
    if not others or "cap" not in LOSS_OPTIONS[recipe.loss.name] or recipe.loss.options.get("cap") is not None:
        return ()
    return (
        f"{' and '.join(others)}: not the engine that trains, and loss {recipe.loss.name!r} has no cap, so nothing "
        "corrects for its arithmetic; watch the mismatch, or weigh tokens by truncated importance with --set "
        "loss.options.cap=2.0",
    )


def _other_engines(recipe: Recipe) -> list[str]:
    """What samples, or is published to, that is not the embedded engine."""
    models = [str(source.settings.get("model") or "") for source in recipe.sources]
    found = [repr(model) for model in dict.fromkeys(models) if model and not model.startswith(f"{SAME_ENGINE}/")]
    is_other = recipe.publish.name not in (SAME_ENGINE, NOWHERE)
    return found + [f"publisher {recipe.publish.name!r}"] * is_other
