"""The stamp: cnibox's plugins, compiled ahead for one interpreter, in front of the zip in the same file.

A stamped file is

    #!/usr/bin/python3 -IScimport sys;f=open(sys.argv[1],'rb');f.readline();exec(f.readline())
    <line 2: if this is the interpreter of the stamp, runs the code that follows; then runs line 3>
    <marshalled code><line 3: runs __main__.py of the zip><zip>

The kernel appends the path by which the file was started to the first line, so that Python runs line 2 of
that very file: no runpy, no zipimport, no search for modules, which is half of a plugin's start. Where the
interpreter has another bytecode, and for the operator's commands, line 2 falls through to line 3, and
everything is as in the plain zipapp.

This module is run by the interpreter that the stamp is for, as text: it knows its own bytecode. Input and
output are marshalled, on stdin and stdout.
"""

from __future__ import annotations

import ast
import marshal
import sys

SHEBANG = "#!{} -IScimport sys;f=open(sys.argv[1],'rb');f.readline();exec(f.readline())\n"
PLAIN_SHEBANG = "#!{} -IS\n"
MAX_SHEBANG = 127
"""Bytes that a kernel before 5.1 reads of a first line (BINPRM_BUF_SIZE less one)."""

LINE_2 = (
    "del sys.argv[0];import marshal;end=f.tell()+{end};"
    "p,CODE=marshal.loads(f.read({size}))if sys.implementation.name=={implementation!r}and "
    "sys.modules['_frozen_importlib_external'].MAGIC_NUMBER=={magic!r} else('',{{}});"
    "exec(p);f.seek(end);exec(f.readline())\n"
)
LINE_3 = (
    "sys.path.insert(0,sys.argv[0]);import zipimport;exec(zipimport.zipimporter(sys.argv[0]).get_code('__main__'))\n"
)
PRELUDE = "cnibox.cli.prelude"


class Strip(ast.NodeTransformer):
    """Drops what does nothing at run time but costs at every start: annotations and what belongs to them.

    That is imports for the type checker, and `from __future__ import annotations`, which reads a file.
    """

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        if node.value is None:
            return ast.copy_location(ast.Pass(), node)
        return self.generic_visit(ast.copy_location(ast.Assign([node.target], node.value), node))

    def visit_If(self, node: ast.If) -> ast.AST:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return ast.copy_location(ast.Pass(), node)
        return self.generic_visit(node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:
        if node.module == "__future__":
            return ast.copy_location(ast.Pass(), node)
        return node


def stamp(sources: dict[str, tuple[str, str]]) -> bytes:
    """Lines 2 and 3 with the code between them. `sources` is {module: (path for tracebacks, source text)}.

    The code is the prelude's with a table, and then that of the modules, each by itself: a plugin reads only those
    that it uses.
    """
    trees = {name: stripped(path, text) for name, (path, text) in sources.items()}
    code = {
        name: compile(tree, sources[name][0], "exec", dont_inherit=True, optimize=2) for name, tree in trees.items()
    }
    prelude = code.pop(PRELUDE)
    table: dict[str, tuple[bool, int, int, tuple[str, ...]]] = {}
    modules = b""
    for name in code:
        blob = marshal.dumps(code[name])
        is_package = sources[name][0].endswith("/__init__.py")
        package = name if is_package else name.rpartition(".")[0]
        imported = tuple(other for other in imported_by(trees[name], package) if other in code and other != name)
        table[name] = (is_package, len(modules), len(blob), imported)
        modules += blob
    first = marshal.dumps((prelude, table))
    line_2 = LINE_2.format(
        size=len(first),
        end=len(first) + len(modules),
        implementation=sys.implementation.name,
        magic=sys.modules["_frozen_importlib_external"].MAGIC_NUMBER,
    )
    return line_2.encode() + first + modules + LINE_3.encode()


def stripped(path: str, text: str) -> ast.Module:
    """A module without what Strip drops; line numbers stay."""
    tree: ast.Module = ast.fix_missing_locations(Strip().visit(ast.parse(text, path)))
    return tree


def imported_by(tree: ast.Module, package: str) -> list[str]:
    """What a package's module may import relatively at its top, packages first; some of the names are no modules."""
    found: dict[str, None] = {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.level:
            names = package.split(".")
            names = names[: len(names) + 1 - node.level] + (node.module.split(".") if node.module else [])
            found |= {".".join(names[:end]): None for end in range(1, len(names) + 1)}
            found |= {".".join([*names, alias.name]): None for alias in node.names}
    return list(found)


def main() -> None:
    """Sources come on stdin; (this interpreter's path, its version, the stamp) go to stdout."""
    sources = marshal.loads(sys.stdin.buffer.read())
    version = f"{sys.implementation.name} {sys.version.split()[0]}"
    sys.stdout.buffer.write(marshal.dumps((sys.executable, version, stamp(sources)), 2))


if __name__ == "__main__":
    main()
