"""Agents: the components they are made from, the prompts they read and the tools they call.

Importing this package loads nothing; its modules are imported by name.
"""

__all__: list[str] = []
