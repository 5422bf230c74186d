package clients

import (
	"context"
	"fmt"
	"strconv"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.etcd.io/etcd/client/v3/kubernetes"
)

func TestTxnComparesEveryTarget(t *testing.T) {
	onEachEndpoint(t, func(t *testing.T, client *clientv3.Client) {
		prefix := keyspace(t, client)
		key, absent := prefix+"k", prefix+"absent"
		created := put(t, client, key, "a").Header.Revision
		changed := put(t, client, key, "m").Header.Revision
		for _, c := range []struct {
			compare clientv3.Cmp
			want    bool
		}{
			{clientv3.Compare(clientv3.Value(key), "=", "m"), true},
			{clientv3.Compare(clientv3.Value(key), "=", "M"), false},
			{clientv3.Compare(clientv3.Value(key), "!=", "m"), false},
			{clientv3.Compare(clientv3.Value(key), ">", "l"), true},
			{clientv3.Compare(clientv3.Value(key), "<", "mm"), true},
			{clientv3.Compare(clientv3.Version(key), "=", 2), true},
			{clientv3.Compare(clientv3.Version(key), "<", 2), false},
			{clientv3.Compare(clientv3.CreateRevision(key), "=", created), true},
			{clientv3.Compare(clientv3.CreateRevision(key), ">", created), false},
			{clientv3.Compare(clientv3.ModRevision(key), "=", changed), true},
			{clientv3.Compare(clientv3.ModRevision(key), "!=", changed), false},
			{clientv3.Compare(clientv3.LeaseValue(key), "=", 0), true},
			{clientv3.Compare(clientv3.LeaseValue(key), ">", 0), false},
			{clientv3.Compare(clientv3.Version(absent), "=", 0), true},
			{clientv3.Compare(clientv3.ModRevision(absent), "=", 0), true},
			{clientv3.Compare(clientv3.CreateRevision(absent), ">", 0), false},
			{clientv3.Compare(clientv3.Value(absent), "=", ""), false},
			{clientv3.Compare(clientv3.Value(absent), "!=", "x"), false},
			{clientv3.Compare(clientv3.Version(prefix), ">", 1).WithPrefix(), true},
			{clientv3.Compare(clientv3.Version(prefix), ">", 2).WithPrefix(), false},
			{clientv3.Compare(clientv3.Version(absent), "=", 0).WithRange(absent + "z"), true},
		} {
			resp := commit(t, client.Txn(deadline(t)).If(c.compare).Then(clientv3.OpGet(key)).Else(clientv3.OpGet(absent)))
			equal(t, fmt.Sprintf("%v", c.compare), resp.Succeeded, c.want)
			found := len(resp.Responses[0].GetResponseRange().Kvs)
			equal(t, "branch", found == 1, c.want)
		}
		resp := commit(t, client.Txn(deadline(t)).If(
			clientv3.Compare(clientv3.Version(key), "=", 2), clientv3.Compare(clientv3.Version(absent), "=", 1)))
		equal(t, "all must hold", resp.Succeeded, false)
	})
}

func TestTxnRunsItsOperationsInOrderAtOneRevision(t *testing.T) {
	onEachEndpoint(t, func(t *testing.T, client *clientv3.Client) {
		prefix := keyspace(t, client)
		before := put(t, client, prefix+"old", "x").Header.Revision
		resp := commit(t, client.Txn(deadline(t)).Then(
			clientv3.OpGet(prefix+"a"),
			clientv3.OpPut(prefix+"a", "1"),
			clientv3.OpPut(prefix+"b", "2"),
			clientv3.OpGet(prefix, clientv3.WithPrefix()),
			clientv3.OpDelete(prefix+"old", clientv3.WithPrevKV()),
			clientv3.OpGet(prefix, clientv3.WithPrefix(), clientv3.WithCountOnly()),
		))
		equal(t, "succeeded", resp.Succeeded, true)
		equal(t, "revision", resp.Header.Revision, before+1)
		equal(t, "responses", len(resp.Responses), 6)
		first := resp.Responses[0].GetResponseRange()
		equal(t, "first range sees nothing", first.Count, 0)
		equal(t, "first range is at the old revision", first.Header.Revision, before)
		equal(t, "put", resp.Responses[1].GetResponsePut().Header.Revision, before+1)
		seen := resp.Responses[3].GetResponseRange()
		equal(t, "range sees the puts", keys((*clientv3.GetResponse)(seen), prefix), "a b old")
		equal(t, "mod_revision in the txn", seen.Kvs[1].ModRevision, before+1)
		equal(t, "deleted", string(resp.Responses[4].GetResponseDeleteRange().PrevKvs[0].Value), "x")
		equal(t, "count at the end", resp.Responses[5].GetResponseRange().Count, 2)

		idle := commit(t, client.Txn(deadline(t)).Then(clientv3.OpDelete(prefix+"never"), clientv3.OpGet(prefix+"a")))
		equal(t, "revision without a change", idle.Header.Revision, before+1)
		at := get(t, client, prefix, clientv3.WithPrefix(), clientv3.WithRev(before))
		equal(t, "before the txn", keys(at, prefix), "old")
	})
}

func TestNestedTxnSeesTheStateBeforeTheWhole(t *testing.T) {
	client := connect(t)
	prefix := keyspace(t, client)
	fresh := clientv3.Compare(clientv3.Version(prefix+"a"), "=", 0)
	inner := clientv3.OpTxn([]clientv3.Cmp{fresh},
		[]clientv3.Op{clientv3.OpPut(prefix+"b", "then"), clientv3.OpTxn(nil, []clientv3.Op{clientv3.OpPut(prefix+"c", "deep")}, nil)},
		[]clientv3.Op{clientv3.OpPut(prefix+"b", "else")})
	resp := commit(t, client.Txn(deadline(t)).Then(clientv3.OpPut(prefix+"a", "1"), inner))
	nested := resp.Responses[1].GetResponseTxn()
	equal(t, "inner succeeded", nested.Succeeded, true)
	equal(t, "inner responses", len(nested.Responses), 2)
	got := get(t, client, prefix, clientv3.WithPrefix())
	equal(t, "keys", keys(got, prefix), "a b c")
	equal(t, "b", string(got.Kvs[1].Value), "then")
	for _, kv := range got.Kvs {
		equal(t, "one revision for all", kv.ModRevision, resp.Header.Revision)
	}
	resp = commit(t, client.Txn(deadline(t)).Then(inner))
	equal(t, "inner succeeded", resp.Responses[0].GetResponseTxn().Succeeded, false)
	equal(t, "b", string(get(t, client, prefix+"b").Kvs[0].Value), "else")
}

func TestAFailingOperationAbortsTheWholeTxn(t *testing.T) {
	client := connect(t)
	ctx := deadline(t)
	prefix := keyspace(t, client)
	before := get(t, client, prefix).Header.Revision
	for _, c := range []struct {
		op   clientv3.Op
		want error
	}{
		{clientv3.OpGet(prefix, clientv3.WithRev(before+1000)), rpctypes.ErrFutureRev},
		{clientv3.OpPut(prefix+"absent", "", clientv3.WithIgnoreValue()), rpctypes.ErrKeyNotFound},
		{clientv3.OpPut(prefix+"l", "", clientv3.WithLease(12345)), rpctypes.ErrLeaseNotFound},
		{clientv3.OpPut("", ""), rpctypes.ErrEmptyKey},
		{clientv3.OpPut(prefix+"a", "again"), rpctypes.ErrDuplicateKey},
		{clientv3.OpDelete(prefix, clientv3.WithPrefix()), rpctypes.ErrDuplicateKey},
		{clientv3.OpTxn(nil, []clientv3.Op{clientv3.OpPut(prefix+"a", "")}, nil), rpctypes.ErrDuplicateKey},
	} {
		_, err := client.Txn(ctx).Then(clientv3.OpPut(prefix+"a", "1"), c.op).Commit()
		wantError(t, err, c.want)
	}
	got := get(t, client, prefix, clientv3.WithPrefix())
	equal(t, "keys written", got.Count, 0)
	equal(t, "revision", got.Header.Revision, before)
}

func TestTxnTakes128Operations(t *testing.T) {
	client := connect(t)
	prefix := keyspace(t, client)
	ops := func(number int) (ops []clientv3.Op) {
		for i := range number {
			ops = append(ops, clientv3.OpPut(fmt.Sprint(prefix, i), "v"))
		}
		return ops
	}
	commit(t, client.Txn(deadline(t)).Then(ops(128)...))
	equal(t, "keys", get(t, client, prefix, clientv3.WithPrefix()).Count, 128)
	_, err := client.Txn(deadline(t)).Then(ops(129)...).Commit()
	wantError(t, err, rpctypes.ErrTooManyOps)
	_, err = client.Txn(deadline(t)).Else(ops(129)...).Commit()
	wantError(t, err, rpctypes.ErrTooManyOps)
	commit(t, client.Txn(deadline(t)).Then(clientv3.OpTxn(nil, ops(127), nil)))
	_, err = client.Txn(deadline(t)).Then(clientv3.OpTxn(nil, ops(128), nil)).Commit()
	wantError(t, err, rpctypes.ErrTooManyOps)
}

// The calls of kube-apiserver, through the package it makes them with.
func TestKubernetesClient(t *testing.T) {
	onEachEndpoint(t, func(t *testing.T, client *clientv3.Client) {
		ctx := deadline(t)
		prefix := keyspace(t, client)
		kube := kubernetes.Client{Client: client}

		created, err := kube.OptimisticPut(ctx, prefix+"a", []byte("1"), 0, kubernetes.PutOptions{GetOnFailure: true})
		must(t, err)
		equal(t, "created", created.Succeeded, true)
		again, err := kube.OptimisticPut(ctx, prefix+"a", []byte("2"), 0, kubernetes.PutOptions{GetOnFailure: true})
		must(t, err)
		equal(t, "created twice", again.Succeeded, false)
		equal(t, "what is there", string(again.KV.Value), "1")
		updated, err := kube.OptimisticPut(ctx, prefix+"a", []byte("2"), created.Revision, kubernetes.PutOptions{})
		must(t, err)
		equal(t, "updated", updated.Succeeded, true)
		equal(t, "revision", updated.Revision, created.Revision+1)

		for _, name := range []string{"b", "c", "d"} {
			put(t, client, prefix+name, name)
		}
		list, err := kube.List(ctx, prefix, kubernetes.ListOptions{Limit: 3})
		must(t, err)
		equal(t, "list", len(list.Kvs), 3)
		equal(t, "count", list.Count, 4)
		put(t, client, prefix+"e", "later")
		rest, err := kube.List(ctx, prefix, kubernetes.ListOptions{Limit: 3, Revision: list.Revision, Continue: string(list.Kvs[2].Key) + "\x00"})
		must(t, err)
		equal(t, "rest", len(rest.Kvs), 1)
		equal(t, "count of the rest", rest.Count, 1)
		count, err := kube.Count(ctx, prefix, kubernetes.CountOptions{})
		must(t, err)
		equal(t, "count", count, 5)

		lost, err := kube.OptimisticDelete(ctx, prefix+"a", created.Revision, kubernetes.DeleteOptions{GetOnFailure: true})
		must(t, err)
		equal(t, "deleted at an old revision", lost.Succeeded, false)
		equal(t, "what is there", lost.KV.ModRevision, updated.Revision)
		gone, err := kube.OptimisticDelete(ctx, prefix+"a", updated.Revision, kubernetes.DeleteOptions{})
		must(t, err)
		equal(t, "deleted", gone.Succeeded, true)
		found, err := kube.Get(ctx, prefix+"a", kubernetes.GetOptions{})
		must(t, err)
		if found.KV != nil || found.Revision < gone.Revision {
			t.Errorf("after the deletion at %d: %v", gone.Revision, found)
		}
	})
}

// Money moves between accounts through software transactional memory, from all members at once; none is made or lost.
func TestConcurrentTransfersKeepTheSum(t *testing.T) {
	client := connect(t)
	prefix := keyspace(t, client)
	const accounts, workers, transfers, start = 6, 6, 30, 100
	account := func(i int) string { return fmt.Sprint(prefix, i%accounts) }
	for i := range accounts {
		put(t, client, account(i), strconv.Itoa(start))
	}
	done := make(chan error)
	for worker := range workers {
		own := connect(t, endpoints[worker%len(endpoints)])
		go func() {
			done <- transfer(own, worker, transfers, account)
		}()
	}
	for range workers {
		must(t, <-done)
	}
	sum := 0
	for _, kv := range get(t, client, prefix, clientv3.WithPrefix()).Kvs {
		amount, err := strconv.Atoi(string(kv.Value))
		must(t, err)
		sum += amount
	}
	equal(t, "sum", sum, accounts*start)
}

func transfer(client *clientv3.Client, worker, transfers int, account func(int) string) error {
	for n := range transfers {
		from, to := account(worker+n), account(worker+n*3+1)
		if from == to {
			continue
		}
		_, err := concurrency.NewSTM(client, func(stm concurrency.STM) error {
			a, _ := strconv.Atoi(stm.Get(from))
			b, _ := strconv.Atoi(stm.Get(to))
			stm.Put(from, strconv.Itoa(a-1))
			stm.Put(to, strconv.Itoa(b+1))
			return nil
		}, concurrency.WithAbortContext(context.Background()))
		if err != nil {
			return err
		}
	}
	return nil
}
