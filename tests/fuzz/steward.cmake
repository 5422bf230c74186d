nabata_fuzz(steward_card ${CMAKE_CURRENT_LIST_DIR}/steward_card.c nb_steward)
