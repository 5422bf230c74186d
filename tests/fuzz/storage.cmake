nabata_fuzz(wal_segment ${CMAKE_CURRENT_LIST_DIR}/wal_segment.c nb_storage)
nabata_fuzz(snapshot_chunk ${CMAKE_CURRENT_LIST_DIR}/snapshot_chunk.c nb_storage)
