"""What is looked for in a file before PostgreSQL sees it, and what PostgreSQL gets of it."""

from datetime import date

import pytest
from arro3.core import Array, DataType, Table

from load_postgres import rows
from load_postgres.rows import NotPlainError, ParquetRows, has_big_exponent

EXPONENTS = [
    pytest.param(b'"{""n"":1e131071}"', True, id="number"),
    pytest.param(b'"[1.5E+200,2]"', True, id="signed, upper case"),
    pytest.param(b'"[-1e-16000]"', True, id="negative"),
    pytest.param(b'"[1e00000400]"', True, id="with noughts before it"),
    pytest.param(b"1e500", True, id="nothing else"),
    pytest.param(b'"[' + b"9" * 100 + b'.5e500]"', True, id="long mantissa"),
    pytest.param(b'"[1e99,2e0012]"', False, id="two digits"),
    pytest.param(b"ff69e5c1-5b9a-4e4b-8ab9-8a8b3c3d6f7e,a1e1234567", False, id="hexadecimal id"),
    pytest.param(b"0123456789abcdef01e123", False, id="end of a hexadecimal id"),
    pytest.param(b"1e123f,2e500x", False, id="more than digits"),
    pytest.param(b'"{""segment"":""135e4304"",""id"":""a-12345e123456""}"', False, id="digits of an id, in quotes"),
    pytest.param(b'"{ ""n"" : 1e131071 }"', True, id="blanks around it"),
    pytest.param(b"a,30e27434729653169918,b", False, id="more than jsonb takes: an id"),
    pytest.param(b"", False, id="nothing"),
]


@pytest.mark.parametrize(("data", "found"), EXPONENTS)
def test_numbers_with_big_exponents_are_found(data, found):
    assert has_big_exponent(data) is found


def given(**columns: list[str | None]) -> ParquetRows:
    arrays = [Array(values, DataType.utf8()) for values in columns.values()]
    return ParquetRows(Table.from_arrays(arrays, names=list(columns)), date(2026, 11, 1))


def test_a_file_becomes_csv_part_by_part(monkeypatch):
    monkeypatch.setattr(rows, "ROWS_IN_PART", 2)
    three = given(event_key=["1", "2", "3"], rcpt_meta=['{"a":1e99}', None, "[]"], subject=["Grüße, 1e500", "", "a\0b"])
    assert three.columns == ("event_key", "rcpt_meta", "subject", "event_date")
    assert list(three.parts()) == [
        '1,"{""a"":1e99}","Grüße, 1e500",2026-11-01\n2,\x01,,2026-11-01\n'.encode(),
        b"3,[],a\\u0000b,2026-11-01\n",
    ]
    assert list(given(event_key=[], subject=[]).parts()) == []


@pytest.mark.parametrize(
    ("column", "value", "null"),
    [
        pytest.param("subject", "\x01", "\x02", id="the null mark"),
        pytest.param("reason", "a\x01b", "\x02", id="the null mark within a text"),
        pytest.param("rcpt_meta", '{"n":1e131071}', "\x01", id="a big exponent in JSON"),
    ],
)
def test_a_value_that_needs_care_ends_the_parts_wherever_it_is(monkeypatch, column, value, null):
    monkeypatch.setattr(rows, "ROWS_IN_PART", 2)
    odd = given(**{"event_key": ["1", "2", "3"], column: [None, None, value]})
    parts = odd.parts()
    assert next(parts) == b"1,\x01,2026-11-01\n2,\x01,2026-11-01\n"
    with pytest.raises(NotPlainError):
        next(parts)
    assert odd.whole().null == null
    assert odd.whole().big_exponents is (column == "rcpt_meta")
