/*
 * base/version: what nabata says it is. The number is the project's in CMakeLists.txt.
 */
#ifndef NABATA_BASE_VERSION_H
#define NABATA_BASE_VERSION_H

#define NB_VERSION NABATA_VERSION

/* The etcd whose API nabata speaks, for those who ask for it by name. */
#define NB_ETCD_VERSION "3.7.1"
#define NB_ETCD_GIT_SHA "5e7fd0de9a57"
#define NB_ETCD_GO_VERSION "go1.26.5"

#endif
