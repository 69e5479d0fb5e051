import sys

import pytest

from semid._optional import require
from semid.errors import OptionalDependencyError


def test_a_module_that_is_there():
    assert require("json", extra="plot") is sys.modules["json"]


def test_a_missing_module_names_its_extra():
    message = (
        r"cannot import no_such_module: expected the 'plot' extra, got No module named 'no_such_module'\. "
        r"Run pip install 'semid\[plot\]'\."
    )
    with pytest.raises(OptionalDependencyError, match=message) as caught:
        require("no_such_module", extra="plot")
    assert isinstance(caught.value, ImportError)
