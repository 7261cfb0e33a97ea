from typing import Any

import pytest

from tests.unit.writers.writer_support import RecordingWriter


@pytest.fixture
def writer() -> Any:
    return RecordingWriter()
