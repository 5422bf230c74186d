/*
 * cli/commands: what each command's file offers to the table.
 */
#ifndef NABATA_CLI_COMMANDS_H
#define NABATA_CLI_COMMANDS_H

struct cli_command;

extern const struct cli_command cli_command_server;
extern const struct cli_command cli_command_playground;
extern const struct cli_command cli_command_put;
extern const struct cli_command cli_command_get;
extern const struct cli_command cli_command_del;
extern const struct cli_command cli_command_txn;
extern const struct cli_command cli_command_compaction;
extern const struct cli_command cli_command_endpoint_health;
extern const struct cli_command cli_command_endpoint_status;
extern const struct cli_command cli_command_endpoint_hashkv;
extern const struct cli_command cli_command_member_list;
extern const struct cli_command cli_command_member_add;
extern const struct cli_command cli_command_member_remove;
extern const struct cli_command cli_command_member_update;
extern const struct cli_command cli_command_member_promote;
extern const struct cli_command cli_command_move_leader;
extern const struct cli_command cli_command_check;
extern const struct cli_command cli_command_soak;
extern const struct cli_command cli_command_log;
extern const struct cli_command cli_command_recover;
extern const struct cli_command cli_command_bench_put;
extern const struct cli_command cli_command_bench_range;
extern const struct cli_command cli_command_bench_txn;
extern const struct cli_command cli_command_bench_hold;
extern const struct cli_command cli_command_version;

#endif
