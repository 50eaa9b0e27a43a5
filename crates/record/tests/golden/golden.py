"""Makes the golden files of kafka-python: `python golden.py DIR`."""

import pathlib
import sys

from kafka.record.default_records import DefaultRecordBatchBuilder

TIME = 1_700_000_000_000

for codec_id, codec in enumerate(["none", "gzip", "snappy", "lz4", "zstd"]):
    builder = DefaultRecordBatchBuilder(2, codec_id, False, -1, -1, -1, 1 << 20)
    for i in range(100):
        key = None if i % 7 == 0 else f"key-{i}".encode()
        value = None if i % 11 == 0 else (f"value-{i} " * (i * 13 % 40)).encode()
        headers = [("trace", bytes([i, 0, 255])), ("", None)] if i % 3 == 0 else []
        assert builder.append(i, TIME + i * 37 - i % 5 * 1000, key, value, headers) is not None
    (pathlib.Path(sys.argv[1]) / f"kafka-python-v2-{codec}.bin").write_bytes(builder.build())
