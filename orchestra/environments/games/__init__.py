"""Games: the rules are OpenSpiel's, the words are ours; one adapter for all, and one small module of texts a game."""

__all__: list[str] = []
