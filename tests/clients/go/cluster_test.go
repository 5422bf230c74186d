package clients

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
)

func TestStatusOfEveryMember(t *testing.T) {
	client := connect(t)
	semver := regexp.MustCompile(`^[0-9]+\.[0-9]+\.[0-9]+`)
	leaders := map[uint64]bool{}
	members := map[uint64]bool{}
	put(t, client, keyspace(t, client)+"k", "v")
	for _, endpoint := range endpoints {
		status, err := client.Status(deadline(t), endpoint)
		must(t, err)
		if !semver.MatchString(status.Version) {
			t.Errorf("version %q is no semantic version", status.Version)
		}
		if status.DbSize <= 0 || status.DbSizeInUse <= 0 || status.DbSizeInUse > status.DbSize {
			t.Errorf("size %d, in use %d", status.DbSize, status.DbSizeInUse)
		}
		if status.RaftTerm == 0 || status.RaftIndex == 0 || status.RaftAppliedIndex == 0 || status.RaftAppliedIndex > status.RaftIndex {
			t.Errorf("term %d, index %d, applied %d", status.RaftTerm, status.RaftIndex, status.RaftAppliedIndex)
		}
		equal(t, "header's term", status.Header.RaftTerm, status.RaftTerm)
		equal(t, "is a learner", status.IsLearner, false)
		equal(t, "errors", len(status.Errors), 0)
		equal(t, "quota", status.DbSizeQuota, 2147483648)
		leaders[status.Leader] = true
		members[status.Header.MemberId] = true
	}
	equal(t, "leaders", len(leaders), 1)
	equal(t, "members", len(members), len(endpoints))
	for leader := range leaders {
		equal(t, "the leader is a member", members[leader], true)
	}
}

func TestMemberList(t *testing.T) {
	onEachEndpoint(t, func(t *testing.T, client *clientv3.Client) {
		for _, options := range [][]clientv3.OpOption{nil, {clientv3.WithSerializable()}} {
			list, err := client.MemberList(deadline(t), options...)
			must(t, err)
			equal(t, "members", len(list.Members), len(endpoints))
			equal(t, "header revision", list.Header.Revision, 0)
			if list.Header.ClusterId == 0 || list.Header.MemberId == 0 {
				t.Errorf("header %v", list.Header)
			}
			var previous uint64
			urls := map[string]bool{}
			for _, member := range list.Members {
				if member.ID <= previous {
					t.Errorf("members are not in the order of their ids: %v", list.Members)
				}
				previous = member.ID
				equal(t, "peer URLs", len(member.PeerURLs), 1)
				equal(t, "client URLs", len(member.ClientURLs), 1)
				equal(t, "is a learner", member.IsLearner, false)
				equal(t, "name", regexp.MustCompile("^m[1-9]$").MatchString(member.Name), true)
				urls[member.ClientURLs[0]] = true
				status, err := connect(t, member.ClientURLs[0]).Status(deadline(t), member.ClientURLs[0])
				must(t, err)
				equal(t, "id", status.Header.MemberId, member.ID)
				equal(t, "cluster id", status.Header.ClusterId, list.Header.ClusterId)
			}
			for _, endpoint := range endpoints {
				equal(t, endpoint+" is listed", urls[endpoint], true)
			}
		}
		must(t, client.Sync(deadline(t)))
		equal(t, "endpoints after sync", len(client.Endpoints()), len(endpoints))
		put(t, client, keyspace(t, client)+"k", "v")
	})
}

func TestHealthService(t *testing.T) {
	for _, endpoint := range endpoints {
		health := grpc_health_v1.NewHealthClient(raw(t, endpoint))
		got, err := health.Check(deadline(t), &grpc_health_v1.HealthCheckRequest{})
		must(t, err)
		equal(t, "status", got.Status, grpc_health_v1.HealthCheckResponse_SERVING)
		_, err = health.Check(deadline(t), &grpc_health_v1.HealthCheckRequest{Service: "other"})
		wantStatus(t, err, codes.NotFound, "unknown service")
		watch, err := health.Watch(deadline(t), &grpc_health_v1.HealthCheckRequest{})
		must(t, err)
		got, err = watch.Recv()
		must(t, err)
		equal(t, "first of the watch", got.Status, grpc_health_v1.HealthCheckResponse_SERVING)
	}
}

func TestHealthOverHTTP(t *testing.T) {
	for _, endpoint := range endpoints {
		resp, err := http.Get(endpoint + "/health")
		must(t, err)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		must(t, err)
		equal(t, "code", resp.StatusCode, http.StatusOK)
		equal(t, "body", strings.TrimSpace(string(body)), `{"health":"true","reason":""}`)
	}
}

func TestAllMembersHaveTheSameHash(t *testing.T) {
	client := connect(t)
	prefix := keyspace(t, client)
	var revisions []int64
	for i := range 100 {
		revisions = append(revisions, put(t, client, fmt.Sprint(prefix, i%7), fmt.Sprint(i)).Header.Revision)
		if i%5 == 0 {
			revisions = append(revisions, del(t, client, fmt.Sprint(prefix, i%7)).Header.Revision)
		}
	}
	hashes := map[uint32]bool{}
	for _, revision := range []int64{revisions[10], revisions[50], revisions[len(revisions)-1], 0} {
		var first *clientv3.HashKVResponse
		for _, endpoint := range endpoints {
			own := connect(t, endpoint)
			get(t, own, prefix) // the member has applied all
			got, err := own.HashKV(deadline(t), endpoint, revision)
			must(t, err)
			if first == nil {
				first = got
			}
			equal(t, fmt.Sprintf("hash at %d", revision), got.Hash, first.Hash)
			equal(t, "compact_revision", got.CompactRevision, first.CompactRevision)
			equal(t, "header revision", got.Header.Revision, revisions[len(revisions)-1])
			if revision != 0 {
				equal(t, "hash_revision", got.HashRevision, revision)
			}
			_, err = pb.NewMaintenanceClient(own.ActiveConnection()).Hash(deadline(t), &pb.HashRequest{})
			must(t, err)
		}
		hashes[first.Hash] = true
	}
	equal(t, "different hashes", len(hashes), 3)
}

// What one member has acknowledged, every member shows.
func TestReadsFollowAcknowledgedWrites(t *testing.T) {
	var clients []*clientv3.Client
	for _, endpoint := range endpoints {
		clients = append(clients, connect(t, endpoint))
	}
	key := keyspace(t, clients[0]) + "k"
	for i := range 300 {
		writer, reader := clients[rand.IntN(len(clients))], clients[rand.IntN(len(clients))]
		wrote := put(t, writer, key, strconv.Itoa(i))
		got := get(t, reader, key)
		if len(got.Kvs) != 1 || string(got.Kvs[0].Value) != strconv.Itoa(i) || got.Header.Revision < wrote.Header.Revision {
			t.Fatalf("after writing %d at revision %d: %v", i, wrote.Header.Revision, got)
		}
	}
}

// Many at once raise one counter by compare and swap; each success is one more, at a revision of its own.
func TestConcurrentIncrements(t *testing.T) {
	client := connect(t)
	key := keyspace(t, client) + "counter"
	put(t, client, key, "0")
	const workers, increments = 12, 15
	var mutex sync.Mutex
	revisions := map[int64]bool{}
	var group sync.WaitGroup
	for worker := range workers {
		own := connect(t, endpoints[worker%len(endpoints)])
		ctx := deadline(t)
		group.Go(func() {
			for done := 0; done < increments; {
				got, err := own.Get(ctx, key)
				if err != nil {
					t.Error(err)
					return
				}
				value, _ := strconv.Atoi(string(got.Kvs[0].Value))
				resp, err := own.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", got.Kvs[0].ModRevision)).
					Then(clientv3.OpPut(key, strconv.Itoa(value+1))).Commit()
				if err != nil {
					t.Error(err)
					return
				}
				if resp.Succeeded {
					done++
					mutex.Lock()
					revisions[resp.Header.Revision] = true
					mutex.Unlock()
				}
			}
		})
	}
	group.Wait()
	kv := get(t, client, key).Kvs[0]
	equal(t, "counter", string(kv.Value), strconv.Itoa(workers*increments))
	equal(t, "version", kv.Version, workers*increments+1)
	equal(t, "revisions", len(revisions), workers*increments)
}

// Thousands of calls at once over one connection, each with an answer of its own.
func TestManyCallsInFlight(t *testing.T) {
	onEachEndpoint(t, func(t *testing.T, client *clientv3.Client) {
		prefix := keyspace(t, client)
		ctx := deadline(t)
		const calls = 2000
		var group sync.WaitGroup
		for i := range calls {
			group.Go(func() {
				key := fmt.Sprintf("%s%04d", prefix, i)
				if _, err := client.Put(ctx, key, key); err != nil {
					t.Error(err)
					return
				}
				got, err := client.Get(ctx, key)
				if err != nil || len(got.Kvs) != 1 || string(got.Kvs[0].Value) != key {
					t.Errorf("%s: %v %v", key, got, err)
				}
			})
		}
		group.Wait()
		equal(t, "keys", get(t, client, prefix, clientv3.WithPrefix(), clientv3.WithCountOnly()).Count, calls)
	})
}

func TestManyConnections(t *testing.T) {
	client := connect(t)
	prefix := keyspace(t, client)
	const number = 150
	var group sync.WaitGroup
	for i := range number {
		kv := kvClient(raw(t, endpoints[i%len(endpoints)]))
		ctx := deadline(t)
		group.Go(func() {
			if _, err := kv.Put(ctx, &pb.PutRequest{Key: fmt.Appendf(nil, "%s%d", prefix, i)}); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	equal(t, "keys", get(t, client, prefix, clientv3.WithPrefix(), clientv3.WithCountOnly()).Count, number)
}

// Metadata of a call may be long (tokens are), and need more than one frame of headers.
func TestLongMetadata(t *testing.T) {
	onEachEndpoint(t, func(t *testing.T, client *clientv3.Client) {
		ctx := metadata.AppendToOutgoingContext(deadline(t), "x-long", strings.Repeat("token.", 6000), "x-bytes-bin", "\x00\xff")
		ctx = clientv3.WithRequireLeader(ctx)
		for range 3 {
			_, err := client.Get(ctx, "k")
			must(t, err)
		}
	})
}

// A client that only sends keepalive pings, over an open stream, keeps its connection.
func TestKeepalivePingsAreAllowed(t *testing.T) {
	t.Parallel() // waits, while nothing else does
	ended := make(chan error, len(endpoints))
	var clients []*clientv3.Client
	for _, endpoint := range endpoints {
		client, err := clientv3.New(clientv3.Config{
			Endpoints:            []string{endpoint},
			DialKeepAliveTime:    10 * time.Second, // the least grpc-go takes
			DialKeepAliveTimeout: 2 * time.Second,
			Logger:               zap.NewNop(),
		})
		must(t, err)
		defer client.Close()
		watch, err := grpc_health_v1.NewHealthClient(client.ActiveConnection()).Watch(deadline(t), &grpc_health_v1.HealthCheckRequest{})
		must(t, err)
		_, err = watch.Recv()
		must(t, err)
		go func() {
			_, err := watch.Recv()
			ended <- err
		}()
		clients = append(clients, client)
	}
	select {
	case err := <-ended:
		t.Errorf("an idle stream ended: %v", err)
	case <-time.After(13 * time.Second): // one ping, and its answer
	}
	for _, client := range clients {
		get(t, client, "k")
	}
}
