"""What is looked for in a file before PostgreSQL sees it."""

import pytest

from load_postgres.rows import has_big_exponent

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
