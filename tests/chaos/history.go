package main

import (
	"fmt"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// A write is a put of a value that no other put has.
type write struct {
	key, value string
}

// A history is what all workers were told so far, and the rules that it must keep:
//
//	H1  every revision acknowledged by a put belongs to that put alone, and is above all seen before it began
//	H2  no answer's revision is below one that somebody had already seen when the request began
//	H3  no key's mod_revision is below one that somebody had already seen when the request began, and no key is gone
//	H4  one mod_revision of a key never shows two values, and a value shown was once sent
type history struct {
	mutex     sync.Mutex
	revision  int64            // highest seen by anybody
	mods      map[string]int64 // highest mod_revision seen, of each key
	at        map[int64]write  // what was seen or acknowledged at a revision
	acked     map[int64]write  // what was acknowledged
	sent      map[write]bool   // every put ever tried
	tries     map[string]int64 // puts tried, of each key
	acks      map[string]int64 // puts acknowledged, of each key
	reads     int              // linearizable reads answered
	errors    map[string]int   // calls without an answer, by text
	lastBegin time.Time        // when the youngest acknowledged put began
	broken    error            // the first rule broken
}

func newHistory() *history {
	return &history{
		revision: 1, mods: map[string]int64{}, at: map[int64]write{}, acked: map[int64]write{}, sent: map[write]bool{},
		tries: map[string]int64{}, acks: map[string]int64{}, errors: map[string]int{},
	}
}

// A moment is what was known when a request began: its answer may not fall behind it.
type moment struct {
	begin    time.Time
	revision int64
	mods     map[string]int64
}

func (h *history) now(keys ...string) moment {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	m := moment{begin: time.Now(), revision: h.revision, mods: map[string]int64{}}
	for _, key := range keys {
		m.mods[key] = h.mods[key]
	}
	return m
}

func (h *history) breakRule(format string, arguments ...any) {
	if h.broken == nil {
		h.broken = fmt.Errorf(format, arguments...)
	}
}

// trying is told before a put is sent.
func (h *history) trying(w write) {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	h.sent[w] = true
	h.tries[w.key]++
}

// failed is told of a call without an answer: a put then may or may not have happened.
func (h *history) failed(err error) {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	h.errors[err.Error()]++
}

func (h *history) wrote(w write, m moment, revision int64) {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	if revision <= m.revision {
		h.breakRule("H1: %v was acknowledged at %d, but %d was seen before it began", w, revision, m.revision)
	}
	if other, taken := h.acked[revision]; taken {
		h.breakRule("H1: %v and %v were both acknowledged at %d", w, other, revision)
	}
	h.acked[revision] = w
	h.acks[w.key]++
	h.see(w, revision)
	h.raise(w.key, revision, revision)
	if m.begin.After(h.lastBegin) {
		h.lastBegin = m.begin
	}
}

// read is told the answer to a range over `keys`, all of them or the one.
func (h *history) read(keys []string, m moment, resp *pb.RangeResponse) {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	h.reads++
	if resp.Header.Revision < m.revision {
		h.breakRule("H2: a read answered at %d, but %d was seen before it began", resp.Header.Revision, m.revision)
	}
	found := map[string]int64{}
	for _, kv := range resp.Kvs {
		w := write{string(kv.Key), string(kv.Value)}
		found[w.key] = kv.ModRevision
		if !h.sent[w] {
			h.breakRule("H4: nobody wrote %v, seen at %d", w, kv.ModRevision)
		}
		if kv.ModRevision > resp.Header.Revision {
			h.breakRule("H2: %v is from %d, but the answer from %d", w, kv.ModRevision, resp.Header.Revision)
		}
		h.see(w, kv.ModRevision)
		h.raise(w.key, kv.ModRevision, resp.Header.Revision)
	}
	for _, key := range keys {
		if found[key] < m.mods[key] {
			h.breakRule("H3: %s was seen at %d before the read began, which has it at %d", key, m.mods[key], found[key])
		}
	}
}

func (h *history) see(w write, revision int64) {
	if other, known := h.at[revision]; known && other != w {
		h.breakRule("H4: revision %d is %v and %v", revision, w, other)
	}
	h.at[revision] = w
}

func (h *history) raise(key string, mod, revision int64) {
	h.mods[key] = max(h.mods[key], mod)
	h.revision = max(h.revision, revision)
}

// counts are how many puts were acknowledged and reads answered; ackedSince says whether a put begun after `t` was.
func (h *history) counts() (writes, reads int, broken error) {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	return len(h.acked), h.reads, h.broken
}

func (h *history) ackedSince(t time.Time) bool {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	return h.lastBegin.After(t)
}

// checkVersion holds how often a key was changed against how often that was tried and acknowledged: none is lost, none done twice.
func (h *history) checkVersion(key string, version int64) error {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	if version < h.acks[key] || version > h.tries[key] {
		return fmt.Errorf("%s was put %d times, but %d were acknowledged and %d tried", key, version, h.acks[key], h.tries[key])
	}
	return nil
}
