nabata_fuzz(options ${CMAKE_CURRENT_LIST_DIR}/options.c nb_server)
nabata_fuzz(config_file ${CMAKE_CURRENT_LIST_DIR}/config_file.c nb_server)
nabata_fuzz(server_card ${CMAKE_CURRENT_LIST_DIR}/server_card.c nb_server)
