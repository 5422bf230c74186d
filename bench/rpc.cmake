add_executable(bench_rpc ${CMAKE_SOURCE_DIR}/bench/rpc_bench.c)
target_link_libraries(bench_rpc PRIVATE nb_rpc)
target_include_directories(bench_rpc PRIVATE ${CMAKE_SOURCE_DIR})
