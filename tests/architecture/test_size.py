"""A file fits in a head, a function on a screen."""

import ast

LONGEST_FILE = 400
LONGEST_FUNCTION = 60


def test_no_file_is_longer_than_400_lines(all_sources):
    long = {source.where: lines for source in all_sources if (lines := len(source.text.splitlines())) > LONGEST_FILE}
    assert long == {}


def test_no_function_is_longer_than_60_lines_without_its_docstring(all_sources):
    long = {
        f"{source.where}:{node.lineno} {node.name}": length(node)
        for source in all_sources
        for node in ast.walk(source.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and length(node) > LONGEST_FUNCTION
    }
    assert long == {}


def length(function):
    lines = function.end_lineno - function.lineno + 1
    if ast.get_docstring(function) is None:
        return lines
    docstring = function.body[0]
    return lines - (docstring.end_lineno - docstring.lineno + 1)
