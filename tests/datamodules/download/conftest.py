"""The server with the archive, and where its content goes."""

import pytest
from archives import ARCHIVE


@pytest.fixture
def site(site):
    site.files["/set.zip"] = ARCHIVE
    return site


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "data" / "set"
