package main

import (
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

func answerOf(revision int64, kvs ...*mvccpb.KeyValue) *pb.RangeResponse {
	return &pb.RangeResponse{Header: &pb.ResponseHeader{Revision: revision}, Kvs: kvs}
}

func kv(key, value string, mod int64) *mvccpb.KeyValue {
	return &mvccpb.KeyValue{Key: []byte(key), Value: []byte(value), ModRevision: mod}
}

// T01: each rule is broken once, and the history must say so.
func TestHistoryNotices(t *testing.T) {
	a, b, c := write{"k", "a"}, write{"k", "b"}, write{"other", "c"}
	for name, test := range map[string]struct {
		rule string
		tell func(h *history, early, late moment)
	}{
		"nothing wrong": {"", func(h *history, _, late moment) {
			h.wrote(b, late, 7)
			h.read([]string{"k"}, late, answerOf(7, kv("k", "b", 7)))
		}},
		"a read that overlaps may be old": {"", func(h *history, early, _ moment) {
			h.read([]string{"k"}, early, answerOf(4))
		}},
		"an acknowledged put at an old revision": {"H1", func(h *history, _, late moment) { h.wrote(b, late, 4) }},
		"two puts at one revision":               {"H1", func(h *history, early, _ moment) { h.wrote(c, early, 5) }},
		"a stale revision":                       {"H2", func(h *history, _, late moment) { h.read(nil, late, answerOf(4)) }},
		"a key from the future": {"H2", func(h *history, _, late moment) {
			h.read(nil, late, answerOf(6, kv("k", "b", 7)))
		}},
		"a lost put":  {"H3", func(h *history, _, late moment) { h.read([]string{"k"}, late, answerOf(5)) }},
		"a stale key": {"H3", func(h *history, _, late moment) { h.read([]string{"k"}, late, answerOf(6, kv("k", "b", 3))) }},
		"an unknown value": {"H4", func(h *history, _, late moment) {
			h.read([]string{"k"}, late, answerOf(6, kv("k", "x", 6)))
		}},
		"two values at one revision": {"H4", func(h *history, _, late moment) {
			h.read([]string{"k"}, late, answerOf(6, kv("k", "b", 5)))
		}},
	} {
		h := newHistory()
		for _, w := range []write{a, b, c} {
			h.trying(w)
		}
		early := h.now("k")
		h.wrote(a, early, 5)
		test.tell(h, early, h.now("k"))
		if test.rule == "" && h.broken != nil || test.rule != "" && (h.broken == nil || !strings.HasPrefix(h.broken.Error(), test.rule)) {
			t.Errorf("%s: %v, not %q", name, h.broken, test.rule)
		}
		if h.checkVersion("k", 0) == nil || h.checkVersion("k", 3) == nil {
			t.Errorf("%s: lost and repeated puts go unnoticed", name)
		}
	}
}
