nabata_fuzz(wal_segment ${CMAKE_CURRENT_LIST_DIR}/wal_segment.c nb_storage)
