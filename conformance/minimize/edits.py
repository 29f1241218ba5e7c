"""Small changes to a program: atoms by their site, names by substitution. Each returns a new program."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from conformance.program import Atom, Literal, Program, Ref, Statement, map_atoms

#: Statement, argument (positional ones first, then keywords), then places in nested tuples.
Site = tuple[int, ...]

#: statement kind that binds a name -> how such names begin; every other binds a tensor
PREFIXES = {"optimizer": "opt", "hook": "h"}


def sites(program: Program) -> Iterator[tuple[Site, Atom]]:
    """Every atom with its site, a tuple before its items."""
    for place, statement in enumerate(program):
        for i, atom in enumerate(arguments(statement)):
            yield from _within((place, i), atom)


def literal_sites(program: Program) -> list[tuple[Site, Literal]]:
    return [(site, atom) for site, atom in sites(program) if isinstance(atom, Literal)]


def atom_at(program: Program, site: Site) -> Atom:
    place, *path = site
    atom: Atom = arguments(program.statements[place])
    for step in path:
        atom = atom[step]
    return atom


def literal_at(program: Program, site: Site) -> Literal:
    """The literal at a site that is known to hold one."""
    atom = atom_at(program, site)
    assert isinstance(atom, Literal), f"no literal at {site}: {atom!r}"
    return atom


def arguments(statement: Statement) -> tuple[Atom, ...]:
    return (*statement.args, *(value for _, value in statement.kwargs))


def with_arguments(statement: Statement, values: tuple[Atom, ...]) -> Statement:
    """The statement with as many other arguments in place of its own."""
    count = len(statement.args)
    names = [key for key, _ in statement.kwargs]
    return replace(statement, args=values[:count], kwargs=tuple(zip(names, values[count:], strict=True)))


def with_statement(program: Program, place: int, statement: Statement) -> Program:
    return program.with_statements((*program.statements[:place], statement, *program.statements[place + 1 :]))


def put(program: Program, site: Site, atom: Atom) -> Program:
    """The program with ``atom`` at that site."""
    place, *path = site
    statement = program.statements[place]
    return with_statement(program, place, with_arguments(statement, _put(arguments(statement), path, atom)))


def put_all(program: Program, atoms: Mapping[Site, Atom]) -> Program:
    for site, atom in atoms.items():
        program = put(program, site, atom)
    return program


def edit(program: Program, change: Callable[[Atom], Atom], start: int = 0) -> Program:
    """The program with ``change`` applied to each atom, from the statement at ``start`` on."""
    changed = (with_arguments(s, map_atoms(arguments(s), change)) for s in program.statements[start:])
    return program.with_statements((*program.statements[:start], *changed))


def edit_literals(program: Program, change: Callable[[Literal], Literal]) -> Program:
    return edit(program, lambda atom: change(atom) if isinstance(atom, Literal) else atom)


def substitute(program: Program, names: Mapping[str, str], start: int = 0) -> Program:
    """Every use of a name replaced by its substitute, from the statement at ``start`` on."""
    return edit(program, lambda atom: Ref(names.get(atom.name, atom.name)) if isinstance(atom, Ref) else atom, start)


def prefix_of_names(program: Program) -> dict[str, str]:
    """Each bound name's prefix (its sort: tensor, optimizer, hook), in order of binding."""
    return {name: PREFIXES.get(s.kind, "t") for s in program for name in s.out}


def fresh_name(program: Program) -> str:
    used = prefix_of_names(program)
    return next(f"t{i}" for i in range(len(used) + 1) if f"t{i}" not in used)


def canonical_names(program: Program) -> Program:
    """Names counted anew in order of binding: ``t0``, ``t1`` …, ``opt0`` …, ``h0`` …."""
    names: dict[str, str] = {}
    counts: dict[str, int] = {}
    renamed = []
    for statement in program:
        reads = with_arguments(statement, map_atoms(arguments(statement), _renamer(names)))
        for name in statement.out:
            prefix = PREFIXES.get(statement.kind, "t")
            names[name] = f"{prefix}{counts.setdefault(prefix, 0)}"
            counts[prefix] += 1
        renamed.append(replace(reads, out=tuple(names[name] for name in statement.out)))
    return program.with_statements(renamed)


def _renamer(names: Mapping[str, str]) -> Callable[[Atom], Atom]:
    return lambda atom: Ref(names[atom.name]) if isinstance(atom, Ref) else atom


def _within(site: Site, atom: Atom) -> Iterator[tuple[Site, Atom]]:
    yield site, atom
    if isinstance(atom, tuple):
        for i, item in enumerate(atom):
            yield from _within((*site, i), item)


def _put(value: tuple[Atom, ...], path: list[int], atom: Atom) -> Atom:
    if not path:
        return atom
    first, *rest = path
    return (*value[:first], _put(value[first], rest, atom), *value[first + 1 :])
