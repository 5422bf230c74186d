nabata_fuzz(machine_apply ${CMAKE_CURRENT_SOURCE_DIR}/machine_apply.c nb_machine)
