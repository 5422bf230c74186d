#include "cli/server.h"
int main(int argc, char **argv)
{
    return cli_server(argc - 1, argv + 1);
}
