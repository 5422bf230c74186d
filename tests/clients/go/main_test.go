// Package clients holds a running cluster to what etcd's official Go client expects of it.
//
// NABATA_ENDPOINTS: client URLs of a fresh cluster of three, comma separated. Every test keeps to keys below a
// random prefix of its own and removes them.
package clients

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

var endpoints []string

func TestMain(m *testing.M) {
	urls := os.Getenv("NABATA_ENDPOINTS")
	if urls == "" {
		fmt.Println("NABATA_ENDPOINTS is not set")
		os.Exit(1)
	}
	endpoints = strings.Split(urls, ",")
	os.Exit(m.Run())
}

// connect makes a client of the given endpoints, or of all.
func connect(t *testing.T, to ...string) *clientv3.Client {
	t.Helper()
	if len(to) == 0 {
		to = endpoints
	}
	client, err := clientv3.New(clientv3.Config{
		Endpoints:          to,
		DialTimeout:        5 * time.Second,
		Logger:             zap.NewNop(),
		MaxCallSendMsgSize: 16 << 20,
	})
	must(t, err)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// raw is a connection without the client library's retries and checks.
func raw(t *testing.T, endpoint string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(strings.TrimPrefix(endpoint, "http://"),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func onEachEndpoint(t *testing.T, test func(t *testing.T, client *clientv3.Client)) {
	for i, endpoint := range endpoints {
		t.Run(fmt.Sprintf("member%d", i+1), func(t *testing.T) { test(t, connect(t, endpoint)) })
	}
}

// keyspace is a fresh prefix; what is below it goes with the test.
func keyspace(t *testing.T, client *clientv3.Client) string {
	t.Helper()
	prefix := "t-" + rand.Text() + "/"
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if _, err := client.Delete(ctx, prefix, clientv3.WithPrefix()); err != nil {
			t.Errorf("cleaning up: %v", err)
		}
	})
	return prefix
}

func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func put(t *testing.T, client *clientv3.Client, key, value string, options ...clientv3.OpOption) *clientv3.PutResponse {
	t.Helper()
	resp, err := client.Put(deadline(t), key, value, options...)
	must(t, err)
	return resp
}

func get(t *testing.T, client *clientv3.Client, key string, options ...clientv3.OpOption) *clientv3.GetResponse {
	t.Helper()
	resp, err := client.Get(deadline(t), key, options...)
	must(t, err)
	return resp
}

func del(t *testing.T, client *clientv3.Client, key string, options ...clientv3.OpOption) *clientv3.DeleteResponse {
	t.Helper()
	resp, err := client.Delete(deadline(t), key, options...)
	must(t, err)
	return resp
}

func commit(t *testing.T, txn clientv3.Txn) *clientv3.TxnResponse {
	t.Helper()
	resp, err := txn.Commit()
	must(t, err)
	return resp
}

func equal[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s is %v, not %v", what, got, want)
	}
}

// wantError asks for one of the client library's own errors.
func wantError(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("got error %v, not %v", err, want)
	}
}

// wantStatus asks for an error as it was on the wire.
func wantStatus(t *testing.T, err error, code codes.Code, text string) {
	t.Helper()
	s := status.Convert(err)
	if s.Code() != code || s.Message() != text || len(s.Details()) != 0 {
		t.Errorf("got %v %q, not %v %q", s.Code(), s.Message(), code, text)
	}
}

// keys are the keys of a response without the test's prefix, in one word.
func keys(resp *clientv3.GetResponse, prefix string) string {
	var names []string
	for _, kv := range resp.Kvs {
		names = append(names, strings.TrimPrefix(string(kv.Key), prefix))
	}
	return strings.Join(names, " ")
}

func kvClient(conn *grpc.ClientConn) pb.KVClient { return pb.NewKVClient(conn) }
