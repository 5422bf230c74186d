nabata_fuzz(rpc_server ${CMAKE_SOURCE_DIR}/tests/fuzz/rpc_server.c nb_rpc)
nabata_fuzz(rpc_client ${CMAKE_SOURCE_DIR}/tests/fuzz/rpc_client.c nb_rpc)
nabata_fuzz(rpc_framing ${CMAKE_SOURCE_DIR}/tests/fuzz/rpc_framing.c nb_rpc)
nabata_fuzz(rpc_text ${CMAKE_SOURCE_DIR}/tests/fuzz/rpc_text.c nb_rpc)
