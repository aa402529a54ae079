"""Statements that run so often that SQLAlchemy's work around one costs more than the database's: compiled once, then the
driver's own. It knows both dialects, and refuses to know what is asked.

What a statement answers is the same as through SQLAlchemy: columns by name, values by the columns' types, errors of its
tree. Lists (`IN`) whose length differs stay with SQLAlchemy.
"""

from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import msgspec
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

Statement = sa.Select[*tuple[Any, ...]] | sa.Insert | sa.Update | sa.Delete
Row = sa.Row[Any]


class Hot:
    """One statement, built once.

    `kept`: the column that the one parameter of a question is compared with. Within a transaction the same question has the
    same answer until a write. `renews`: the question whose rows an update answers as they now are; they are kept instead.
    """

    def __init__(self, statement: Statement, *, kept: str = "", renews: "Hot | None" = None) -> None:
        asks = statement if renews is None else renews.statement
        self.columns = list(asks.selected_columns) if isinstance(asks, sa.Select) else []
        """Of the rows that it answers."""
        if isinstance(statement, sa.Update) and renews is not None:
            statement = statement.returning(*self.columns)
        self.statement: Statement = statement.inline() if isinstance(statement, sa.Insert) else statement
        self.kept = kept
        self.renews = renews
        tables = _tables(statement)
        self.tables = tuple(table.name for table in tables)
        self._identity = [str(column.key) for table in tables for column in table.primary_key]
        self._texts: dict[tuple[str, tuple[str, ...]], _Text] = {}

    def text(self, dialect: sa.Dialect, columns: tuple[str, ...]) -> "_Text":
        """As the driver takes it, for these parameters."""
        key = (dialect.name, columns)
        if key not in self._texts:
            self._texts[key] = _text(self.statement, dialect, columns, self.columns)
        return self._texts[key]

    def identity(self, row: Row) -> tuple[Any, ...]:
        """Which row of its table it is."""
        return tuple([getattr(row, name) for name in self._identity])


class _Text(msgspec.Struct, frozen=True):
    """A statement for one dialect and one set of parameters."""

    sql: str
    order: tuple[str, ...] | None
    """Of positional parameters; None where they go by name."""
    constants: dict[str, Any]
    """Parameters that the statement brings itself, and columns' defaults."""
    row: Callable[[Sequence[Any]], Any] | None
    convert: tuple[tuple[int, Callable[[Any], Any]], ...]
    """Columns whose values the driver does not give as their type."""

    def parameters(self, given: Mapping[str, Any]) -> Any:
        """As the driver takes them."""
        every = {**self.constants, **given} if self.constants else given
        return every if self.order is None else tuple([every[name] for name in self.order])

    def read(self, values: Sequence[Any]) -> Row:
        """One row: what callers ask of an `sa.Row`, the columns by name, a plain named tuple answers as well."""
        if self.convert:
            mine = list(values)
            for index, convert in self.convert:
                mine[index] = convert(mine[index])
            values = mine
        assert self.row is not None
        return cast(Row, self.row(values))


class Hand:
    """Runs hot statements on one open connection, as long as its transaction."""

    def __init__(self, connection: sa.Connection) -> None:
        self._dialect = connection.dialect
        self._cursor: Any = connection.connection.cursor()
        self._fault: type[Exception] = connection.dialect.loaded_dbapi.Error
        self._kept: dict[tuple[Hot, Any], list[Row]] = {}
        self._kept_of: dict[str, list[tuple[Hot, Any]]] = {}

    def rows(self, query: Hot, given: Mapping[str, Any]) -> list[Row]:
        """All rows."""
        if not query.kept:
            return self._rows(query, given)
        (asked,) = given.values()
        key = (query, asked)
        if key not in self._kept:
            self._keep(key, self._rows(query, given))
        return list(self._kept[key])

    def foresee(self, query: Hot, wide: Hot, asked: Sequence[Any]) -> None:
        """Ask a question that is kept for many at once, before anybody does. `wide` answers the same rows for all of these,
        which it takes as `b_0`, `b_1` and so on."""
        found: dict[Any, list[Row]] = {one: [] for one in asked}
        for row in self._rows(wide, {f"b_{number}": one for number, one in enumerate(asked)}):
            found[getattr(row, query.kept)].append(row)
        for one, rows in found.items():
            self._keep((query, one), rows)

    def _keep(self, key: tuple[Hot, Any], rows: list[Row]) -> None:
        self._kept[key] = rows
        for table in key[0].tables:
            self._kept_of.setdefault(table, []).append(key)

    def _rows(self, query: Hot, given: Mapping[str, Any]) -> list[Row]:
        text = query.text(self._dialect, tuple(given))
        try:
            self._cursor.execute(text.sql, text.parameters(given))
            found = self._cursor.fetchall()
        except self._fault as error:
            raise self._translated(error, text.sql) from error
        return [text.read(values) for values in found]

    def execute(self, statement: Hot, values: Mapping[str, Any]) -> int:
        """Change something; the number of rows."""
        if statement.renews is not None:
            return self._renew(statement, statement.renews, values)
        self.forget(statement.tables)
        text = statement.text(self._dialect, tuple(values))
        try:
            self._cursor.execute(text.sql, text.parameters(values))
        except self._fault as error:
            raise self._translated(error, text.sql) from error
        return int(self._cursor.rowcount)

    def execute_many(self, statement: Hot, values: Sequence[Mapping[str, Any]]) -> int:
        """The same with each of these values, whose names are equal; the number of rows in all."""
        self.forget(statement.tables)
        text = statement.text(self._dialect, tuple(values[0]))
        try:
            self._cursor.executemany(text.sql, [text.parameters(one) for one in values])
        except self._fault as error:
            raise self._translated(error, text.sql) from error
        return int(self._cursor.rowcount)

    def _renew(self, statement: Hot, question: Hot, values: Mapping[str, Any]) -> int:
        """What an update returns takes the place of the same rows in what is kept: nobody has to ask again."""
        rows = self._rows(statement, values)
        for table in statement.tables:
            for key in [key for key in self._kept_of.get(table, ()) if key[0] is not question]:
                self._kept.pop(key, None)
        for row in rows:
            kept = self._kept.get((question, getattr(row, question.kept)))
            if kept is not None:
                mine = question.identity(row)
                kept[:] = [row if question.identity(one) == mine else one for one in kept]
        return len(rows)

    def say(self, *words: str) -> None:
        """To the database itself, such as SAVEPOINT; where it is another process, all in one message."""
        try:
            if self._dialect.name == "sqlite":
                for word in words:
                    self._cursor.execute(word)
            else:
                self._cursor.execute("; ".join(words), prepare=False)  # several words cannot be prepared
        except self._fault as error:
            raise self._translated(error, "; ".join(words)) from error

    def forget(self, tables: Sequence[str] | None = None) -> None:
        """What was kept of these tables, or of all, may have changed."""
        if tables is None:
            self._kept.clear()
            self._kept_of.clear()
            return
        for table in tables:
            for key in self._kept_of.pop(table, ()):
                self._kept.pop(key, None)

    def _translated(self, error: Exception, sql: str) -> BaseException:
        """The driver's error as SQLAlchemy's, without the values: they may be somebody's."""
        return DBAPIError.instance(sql, None, error, self._fault, dialect=self._dialect)


def _text(
    statement: Statement, dialect: sa.Dialect, columns: tuple[str, ...], named: Sequence[sa.ColumnElement[Any]]
) -> _Text:
    compiled: Any = statement.compile(dialect=dialect, column_keys=list(columns) or None)
    whole = compiled.construct_expanded_state(dict.fromkeys(columns))  # a list of the statement's own is written out
    own = {name: value for name, value in whole.parameters.items() if name not in columns}
    own |= {column.name: column.default.arg for column in getattr(compiled, "insert_prefetch", ())}
    readers = [column.type.dialect_impl(dialect).result_processor(dialect, None) for column in named]
    return _Text(
        sql=whole.statement,
        order=tuple(whole.positiontup) if compiled.positional else None,
        constants=own,
        row=_row_of([str(column.key) for column in named]) if named else None,
        convert=tuple((index, reader) for index, reader in enumerate(readers) if reader is not None),
    )


def _row_of(names: list[str]) -> Callable[[Sequence[Any]], Any]:
    kind: Any = namedtuple("Row", names)  # type: ignore[misc]
    return kind._make


def _tables(statement: Statement) -> list[sa.Table]:
    """What it reads, or the one that it changes."""
    found = statement.get_final_froms() if isinstance(statement, sa.Select) else [statement.table]
    return [one for one in found if isinstance(one, sa.Table)]
