nabata_fuzz(machine_apply ${CMAKE_CURRENT_SOURCE_DIR}/machine_apply.c nb_machine)
nabata_fuzz(machine_state ${CMAKE_CURRENT_SOURCE_DIR}/machine_state.c nb_machine)
