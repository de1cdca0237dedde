"""What survives a restart: entity rows on RocksDB and their changelog, snapshots in DuckDB."""
