package clients

import (
	"bytes"
	"fmt"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func TestPutCountsRevisionsAndVersions(t *testing.T) {
	onEachEndpoint(t, func(t *testing.T, client *clientv3.Client) {
		key := keyspace(t, client) + "k"
		first := put(t, client, key, "one")
		second := put(t, client, key, "two", clientv3.WithPrevKV())
		equal(t, "second revision", second.Header.Revision, first.Header.Revision+1)
		equal(t, "previous value", string(second.PrevKv.Value), "one")
		equal(t, "previous version", second.PrevKv.Version, 1)
		if first.PrevKv != nil {
			t.Error("a previous value that was not asked for")
		}

		got := get(t, client, key)
		equal(t, "count", got.Count, 1)
		equal(t, "more", got.More, false)
		kv := got.Kvs[0]
		equal(t, "key", string(kv.Key), key)
		equal(t, "value", string(kv.Value), "two")
		equal(t, "create_revision", kv.CreateRevision, first.Header.Revision)
		equal(t, "mod_revision", kv.ModRevision, second.Header.Revision)
		equal(t, "version", kv.Version, 2)
		equal(t, "lease", kv.Lease, 0)
		equal(t, "header revision", got.Header.Revision, second.Header.Revision)
		if got.Header.ClusterId == 0 || got.Header.MemberId == 0 || got.Header.RaftTerm == 0 {
			t.Errorf("header is not filled: %v", got.Header)
		}
	})
}

func TestPutOfANewKeyHasNoPrevious(t *testing.T) {
	client := connect(t)
	resp := put(t, client, keyspace(t, client)+"k", "v", clientv3.WithPrevKV())
	if resp.PrevKv != nil {
		t.Errorf("previous value %v", resp.PrevKv)
	}
}

func TestIgnoreValueKeepsTheValue(t *testing.T) {
	client := connect(t)
	key := keyspace(t, client) + "k"
	_, err := client.Put(deadline(t), key, "", clientv3.WithIgnoreValue())
	wantError(t, err, rpctypes.ErrKeyNotFound)
	put(t, client, key, "kept")
	put(t, client, key, "", clientv3.WithIgnoreValue())
	kv := get(t, client, key).Kvs[0]
	equal(t, "value", string(kv.Value), "kept")
	equal(t, "version", kv.Version, 2)
	put(t, client, key, "new", clientv3.WithIgnoreLease())
	equal(t, "value", string(get(t, client, key).Kvs[0].Value), "new")
}

func TestAnyBytesMakeAKeyAndAValue(t *testing.T) {
	client := connect(t)
	prefix := keyspace(t, client)
	var all []byte
	for i := range 256 {
		all = append(all, byte(i))
	}
	for _, key := range []string{"\x00", "\xff", "\xff\xff", "a\x00b", string(all), string(bytes.Repeat(all, 40))} {
		put(t, client, prefix+key, string(all))
		equal(t, "value", string(get(t, client, prefix+key).Kvs[0].Value), string(all))
	}
	equal(t, "keys", keys(get(t, client, prefix, clientv3.WithPrefix(), clientv3.WithLimit(3)), prefix),
		"\x00 "+string(all)+" "+string(bytes.Repeat(all, 40)))
	put(t, client, prefix+"empty", "")
	equal(t, "length of an empty value", len(get(t, client, prefix+"empty").Kvs[0].Value), 0)
}

// fruit writes a=3 b=1 c=2 d=1, in the order d a c b, and b a second time.
func fruit(t *testing.T, client *clientv3.Client) (prefix string, first int64) {
	prefix = keyspace(t, client)
	first = put(t, client, prefix+"d", "1").Header.Revision
	put(t, client, prefix+"a", "3")
	put(t, client, prefix+"c", "2")
	put(t, client, prefix+"b", "0")
	put(t, client, prefix+"b", "1")
	return prefix, first
}

func TestGetChoosesARange(t *testing.T) {
	onEachEndpoint(t, func(t *testing.T, client *clientv3.Client) {
		prefix, first := fruit(t, client)
		all := clientv3.WithPrefix()
		end := clientv3.WithRange(clientv3.GetPrefixRangeEnd(prefix))
		for _, c := range []struct {
			name    string
			key     string
			options []clientv3.OpOption
			want    string
			count   int64
			more    bool
		}{
			{"one key", "b", nil, "b", 1, false},
			{"absent", "x", nil, "", 0, false},
			{"prefix", "", []clientv3.OpOption{all}, "a b c d", 4, false},
			{"half open range", "b", []clientv3.OpOption{clientv3.WithRange(prefix + "d")}, "b c", 2, false},
			{"range to its own start", "b", []clientv3.OpOption{clientv3.WithRange(prefix + "b")}, "", 0, false},
			{"inverted range", "d", []clientv3.OpOption{clientv3.WithRange(prefix + "a")}, "", 0, false},
			{"range beyond", "bb", []clientv3.OpOption{end}, "c d", 2, false},
			{"limit", "", []clientv3.OpOption{all, clientv3.WithLimit(3)}, "a b c", 4, true},
			{"limit that fits", "", []clientv3.OpOption{all, clientv3.WithLimit(4)}, "a b c d", 4, false},
			{"count only", "", []clientv3.OpOption{all, clientv3.WithCountOnly()}, "", 4, false},
			{"old revision", "", []clientv3.OpOption{all, clientv3.WithRev(first + 2)}, "a c d", 3, false},
			{"serializable at a revision", "", []clientv3.OpOption{all, clientv3.WithRev(first + 4),
				clientv3.WithSerializable()}, "a b c d", 4, false},
			{"first key", "", clientv3.WithFirstKey(), "a", 4, true},
			{"last key", "", clientv3.WithLastKey(), "d", 4, true},
			{"first created", "", clientv3.WithFirstCreate(), "d", 4, true},
			{"last created", "", clientv3.WithLastCreate(), "b", 4, true},
			{"first changed", "", clientv3.WithFirstRev(), "d", 4, true},
			{"last changed", "", clientv3.WithLastRev(), "b", 4, true},
			{"min mod", "", []clientv3.OpOption{all, clientv3.WithMinModRev(first + 2)}, "b c", 4, false},
			{"max mod", "", []clientv3.OpOption{all, clientv3.WithMaxModRev(first + 1)}, "a d", 4, false},
			{"min create", "", []clientv3.OpOption{all, clientv3.WithMinCreateRev(first + 1)}, "a b c", 4, false},
			{"max create, limit", "", []clientv3.OpOption{all, clientv3.WithMaxCreateRev(first + 2),
				clientv3.WithLimit(2)}, "a c", 4, true},
		} {
			got := get(t, client, prefix+c.key, c.options...)
			equal(t, c.name, keys(got, prefix), c.want)
			equal(t, c.name+": count", got.Count, c.count)
			equal(t, c.name+": more", got.More, c.more)
		}
	})
}

func TestGetSorts(t *testing.T) {
	client := connect(t)
	prefix, _ := fruit(t, client)
	for _, c := range []struct {
		target          clientv3.SortTarget
		ascend, descend string
		limit2          string
	}{
		{clientv3.SortByKey, "a b c d", "d c b a", "d c"},
		{clientv3.SortByCreateRevision, "d a c b", "b c a d", "b c"},
		{clientv3.SortByModRevision, "d a c b", "b c a d", "b c"},
	} {
		for order, want := range map[clientv3.SortOrder]string{clientv3.SortAscend: c.ascend, clientv3.SortDescend: c.descend} {
			got := get(t, client, prefix, clientv3.WithPrefix(), clientv3.WithSort(c.target, order))
			equal(t, fmt.Sprintf("target %d order %d", c.target, order), keys(got, prefix), want)
		}
		got := get(t, client, prefix, clientv3.WithPrefix(), clientv3.WithLimit(2), clientv3.WithSort(c.target, clientv3.SortDescend))
		equal(t, fmt.Sprintf("target %d limit 2", c.target), keys(got, prefix), c.limit2)
	}
	byValue := get(t, client, prefix, clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByValue, clientv3.SortDescend))
	equal(t, "values", string(byValue.Kvs[0].Value)+string(byValue.Kvs[1].Value), "32")
	byVersion := get(t, client, prefix, clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByVersion, clientv3.SortDescend))
	equal(t, "highest version", string(byVersion.Kvs[0].Key), prefix+"b")
	equal(t, "number", len(byVersion.Kvs), 4)
}

func TestKeysOnlyLeavesTheValuesOut(t *testing.T) {
	client := connect(t)
	prefix, first := fruit(t, client)
	got := get(t, client, prefix, clientv3.WithPrefix(), clientv3.WithKeysOnly())
	equal(t, "keys", keys(got, prefix), "a b c d")
	for _, kv := range got.Kvs {
		equal(t, "length of value", len(kv.Value), 0)
	}
	equal(t, "version of b", got.Kvs[1].Version, 2)
	equal(t, "create_revision of b", got.Kvs[1].CreateRevision, first+3)
	equal(t, "mod_revision of b", got.Kvs[1].ModRevision, first+4)
}

func TestHistoryStaysReadable(t *testing.T) {
	client := connect(t)
	key := keyspace(t, client) + "k"
	var revisions []int64
	for i := range 20 {
		revisions = append(revisions, put(t, client, key, fmt.Sprint(i)).Header.Revision)
	}
	gone := del(t, client, key).Header.Revision
	for i, revision := range revisions {
		got := get(t, client, key, clientv3.WithRev(revision))
		equal(t, "value", string(got.Kvs[0].Value), fmt.Sprint(i))
		equal(t, "version", got.Kvs[0].Version, int64(i+1))
		equal(t, "header revision is the newest", got.Header.Revision, gone)
	}
	equal(t, "count after the deletion", get(t, client, key, clientv3.WithRev(gone)).Count, 0)
}

func TestDeleteRemovesAndVersionsBeginAgain(t *testing.T) {
	onEachEndpoint(t, func(t *testing.T, client *clientv3.Client) {
		prefix, first := fruit(t, client)
		gone := del(t, client, prefix+"a", clientv3.WithPrevKV())
		equal(t, "deleted", gone.Deleted, 1)
		equal(t, "revision", gone.Header.Revision, first+5)
		equal(t, "previous", string(gone.PrevKvs[0].Value), "3")

		nothing := del(t, client, prefix+"a")
		equal(t, "deleted", nothing.Deleted, 0)
		equal(t, "revision without a change", nothing.Header.Revision, first+5)

		part := del(t, client, prefix+"b", clientv3.WithRange(prefix+"d"), clientv3.WithPrevKV())
		equal(t, "deleted", part.Deleted, 2)
		equal(t, "one revision for all", part.Header.Revision, first+6)
		equal(t, "previous in key order", string(part.PrevKvs[0].Key)+string(part.PrevKvs[1].Key), prefix+"b"+prefix+"c")

		again := put(t, client, prefix+"b", "new")
		kv := get(t, client, prefix+"b").Kvs[0]
		equal(t, "version", kv.Version, 1)
		equal(t, "create_revision", kv.CreateRevision, again.Header.Revision)
		equal(t, "deleted", del(t, client, prefix, clientv3.WithPrefix()).Deleted, 2)
		equal(t, "left", get(t, client, prefix, clientv3.WithPrefix()).Count, 0)
	})
}

func TestCompactionForgetsWhatIsBelow(t *testing.T) {
	onEachEndpoint(t, func(t *testing.T, client *clientv3.Client) {
		ctx := deadline(t)
		key := keyspace(t, client) + "k"
		old := put(t, client, key, "old").Header.Revision
		at := put(t, client, key, "at").Header.Revision
		now := put(t, client, key, "now").Header.Revision

		resp, err := client.Compact(ctx, at)
		must(t, err)
		equal(t, "header revision", resp.Header.Revision, now)
		_, err = client.Get(ctx, key, clientv3.WithRev(old))
		wantError(t, err, rpctypes.ErrCompacted)
		equal(t, "at the compacted revision", string(get(t, client, key, clientv3.WithRev(at)).Kvs[0].Value), "at")
		equal(t, "newest", string(get(t, client, key).Kvs[0].Value), "now")

		for _, revision := range []int64{at, old, 0, -1} {
			_, err = client.Compact(ctx, revision)
			wantError(t, err, rpctypes.ErrCompacted)
		}
		_, err = client.Compact(ctx, now+1)
		wantError(t, err, rpctypes.ErrFutureRev)
		_, err = client.Compact(ctx, now, clientv3.WithCompactPhysical())
		must(t, err)
		_, err = client.Get(ctx, key, clientv3.WithRev(at))
		wantError(t, err, rpctypes.ErrCompacted)
		_, err = client.Get(ctx, key, clientv3.WithRev(now+1))
		wantError(t, err, rpctypes.ErrFutureRev)
	})
}

func TestPagesJoinToTheWhole(t *testing.T) {
	client := connect(t)
	prefix := keyspace(t, client)
	const number, page = 1000, 37
	for start := 0; start < number; start += 100 {
		var ops []clientv3.Op
		for i := range 100 {
			ops = append(ops, clientv3.OpPut(fmt.Sprintf("%s%05d", prefix, start+i), "v"))
		}
		commit(t, client.Txn(deadline(t)).Then(ops...))
	}
	var seen int64
	var revision int64
	from := prefix
	for more := true; more; {
		got := get(t, client, from, clientv3.WithRange(clientv3.GetPrefixRangeEnd(prefix)), clientv3.WithLimit(page),
			clientv3.WithRev(revision))
		equal(t, "count of what is left", got.Count, number-seen)
		for _, kv := range got.Kvs {
			equal(t, "key", string(kv.Key), fmt.Sprintf("%s%05d", prefix, seen))
			seen++
		}
		if revision == 0 {
			revision = got.Header.Revision
		}
		from = string(got.Kvs[len(got.Kvs)-1].Key) + "\x00"
		more = got.More
		put(t, client, prefix+"meanwhile", "") // pages are pinned: this is not among them
	}
	equal(t, "keys", seen, number)
}
