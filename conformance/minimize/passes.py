"""The passes over statements, names and arguments, and the order in which all passes run.

A pass may yield any program: the reducer drops what is ill-formed or not simpler before anybody is asked. So a pass only says what is
worth trying, the most promising first. It is sent the program to go on from (see ``reducer``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from conformance.minimize.edits import (
    atom_at,
    canonical_names,
    fresh_name,
    prefix_of_names,
    put,
    sites,
    substitute,
    with_statement,
)
from conformance.minimize.literal_passes import (
    cast_dtypes,
    drop_dims,
    lay_out_plainly,
    shrink_dims,
    simplify_values,
)
from conformance.minimize.simplicity import as_decimal, simpler_numbers
from conformance.minimize.steps import Pass, Steps, first_taken
from conformance.program import Atom, Program, Ref, Slice, Statement

#: how many earlier names are tried in place of one: more seldom help and each costs a run
NAMES_TRIED: Final = 4

#: kinds whose trailing positional arguments may be optional
WITH_OPTIONAL_ARGUMENTS: Final = ("call", "method", "inplace")


# --- statements ------------------------------------------------------------------------------------------------------


def cut_the_end(program: Program) -> Steps:
    """Bisects for the shortest interesting beginning; blocks that are open there are closed."""
    low, high = 0, len(program)
    while high - low > 1:
        middle = (low + high) // 2
        current = yield beginning(program, middle)
        low, high = (low, middle) if current is not program else (middle, high)
        program = current


def beginning(program: Program, end: int) -> Program:
    """The first ``end`` statements, with an exit for each block that is open there."""
    first = program.statements[:end]
    depth = sum((s.kind == "enter") - (s.kind == "exit") for s in first)
    return program.with_statements((*first, *[Statement("exit")] * depth))


def delete_blocks(program: Program) -> Steps:
    """Runs of statements from the end, half the program at a time, then half of that, down to single ones (and mode blocks' ends)."""
    size = max(len(program) // 2, 1)
    while size:
        end = len(program)
        while end > 0:
            program = yield program.without(range(max(end - size, 0), end))
            end = min(end - size, len(program))
        size //= 2


def bypass_statements(program: Program) -> Steps:
    """Drops a statement, what it bound becoming one of its own arguments, an argument beside it, or an earlier name."""
    for place in reversed(range(len(program))):
        if place < len(program):
            program = yield from first_taken(program, bypasses(program, place))


def bypasses(program: Program, place: int) -> Iterator[Program]:
    statement = program.statements[place]
    prefixes = prefix_of_names(program)
    beside = (name for s in program if set(s.refs()) & set(statement.out) for name in s.refs())
    earlier = list(prefix_of_names(program.slice_before(place)))[:NAMES_TRIED]
    for name in dict.fromkeys((*statement.refs(), *beside, *earlier)):
        if statement.out and name not in statement.out and prefixes[name] == prefixes[statement.out[0]]:
            yield substitute(program, dict.fromkeys(statement.out, name), place + 1).without([place])


# --- names and spelling ------------------------------------------------------------------------------------------------


def use_earlier_names(program: Program) -> Steps:
    """Each use of a name by itself becomes a use of one bound earlier."""
    for site, atom in list(sites(program)):
        if isinstance(atom, Ref):
            program = yield from first_taken(program, (put(program, site, Ref(name)) for name in earlier_names(program, atom.name)))


def earlier_names(program: Program, name: str) -> list[str]:
    """The first names of the same sort bound before ``name``."""
    prefixes = prefix_of_names(program)
    names = list(prefixes)
    return [other for other in names[: names.index(name)] if prefixes[other] == prefixes[name]][:NAMES_TRIED]


def observe_everywhere(program: Program) -> Steps:
    """The normal form: hooked, and observed after every statement."""
    observed = program.with_statements(replace(s, observe=True) for s in program)
    program = yield from first_taken(program, (replace(observed, hooked=True), observed, replace(program, hooked=True)))
    for place, statement in enumerate(program):
        if not statement.observe:
            program = yield with_statement(program, place, replace(statement, observe=True))


def spell_plainly(program: Program) -> Steps:
    """Methods and operators become calls, augmented assignments in-place calls, and those plain calls where nobody minds."""
    for place in range(len(program)):
        program = yield from first_taken(program, plainer_spellings(program, place))


def plainer_spellings(program: Program, place: int) -> Iterator[Program]:
    statement = program.statements[place]
    if statement.kind in ("inplace", "augmented") and isinstance(statement.args[0], Ref):
        yield from out_of_place(program, place, statement.args[0].name)
    plainer = {"method": "call", "operator": "call", "augmented": "inplace"}.get(statement.kind)
    if plainer:
        yield with_statement(program, place, replace(statement, kind=plainer))


def out_of_place(program: Program, place: int, target: str) -> Iterator[Program]:
    """The in-place statement as a call that binds a new name, which later statements use; then one which they don't."""
    statement = program.statements[place]
    out = statement.out or (fresh_name(program),)
    called = with_statement(program, place, replace(statement, kind="call", out=out))
    yield substitute(called, {target: out[0]}, place + 1)
    yield called


def name_canonically(program: Program) -> Steps:
    yield canonical_names(program)


# --- arguments -----------------------------------------------------------------------------------------------------------


def drop_arguments(program: Program) -> Steps:
    """Keyword arguments, all then one by one; then trailing positional ones."""
    for place in range(len(program)):
        program = yield from first_taken(program, (with_statement(program, place, replace(program.statements[place], kwargs=())),))
        for key, _ in program.statements[place].kwargs:
            statement = program.statements[place]
            program = yield with_statement(program, place, replace(statement, kwargs=tuple(kv for kv in statement.kwargs if kv[0] != key)))
        if program.statements[place].kind in WITH_OPTIONAL_ARGUMENTS:
            program = yield from first_taken(program, fewer_positional(program, place))


def fewer_positional(program: Program, place: int) -> Iterator[Program]:
    statement = program.statements[place]
    for count in range(1, len(statement.args)):
        yield with_statement(program, place, replace(statement, args=statement.args[:count]))


def shorten_tuples(program: Program) -> Steps:
    """Tuples among the arguments lose items, the last first. Inner tuples come first, so that no site moves under a later one."""
    for site, atom in reversed(list(sites(program))):
        for i in reversed(range(len(atom) if isinstance(atom, tuple) else 0)):
            now = atom_at(program, site)
            program = yield put(program, site, now[:i] + now[i + 1 :])


def simplify_scalars(program: Program) -> Steps:
    """Numbers towards 0, 1, 2 and fewer digits, True towards False, slices towards the full one."""
    for site, atom in list(sites(program)):
        program = yield from first_taken(program, (put(program, site, simpler) for simpler in simpler_scalars(atom)))


def simpler_scalars(atom: Atom) -> list[Atom]:
    if isinstance(atom, bool):
        return [False] if atom else []
    if isinstance(atom, int):
        return [int(n) for n in simpler_numbers(as_decimal(atom)) if n == n.to_integral_value()]
    if isinstance(atom, float):
        return [float(n) for n in simpler_numbers(as_decimal(atom))]
    return simpler_slices(atom) if isinstance(atom, Slice) else []


def simpler_slices(atom: Slice) -> list[Atom]:
    """The full slice, then one part given up, then one part a simpler number."""
    found: list[Atom] = [Slice(None, None, None)]
    for part in ("step", "start", "stop"):
        value = getattr(atom, part)
        simpler = [] if value is None else [None, *simpler_scalars(value)]
        found += [replace(atom, **{part: v}) for v in simpler if (part, v) != ("step", 0)]
    return found


#: cheap and cutting ones first; every pass runs until none finds anything
PASSES: Final[tuple[Pass, ...]] = (
    cut_the_end,
    delete_blocks,
    bypass_statements,
    drop_arguments,
    shorten_tuples,
    cast_dtypes,
    shrink_dims,
    drop_dims,
    lay_out_plainly,
    use_earlier_names,
    observe_everywhere,
    spell_plainly,
    name_canonically,
    simplify_scalars,
    simplify_values,
)
