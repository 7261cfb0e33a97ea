"""The chains that one lunfs serves out of a pool: their records, files, beginnings and ends."""
