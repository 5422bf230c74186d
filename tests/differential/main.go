// Command differential sends one seeded random history of requests to two fresh clusters, A and B, and compares
// every answer field by field. Any difference in what the two keep or say ends the run with the request, both
// answers, the requests before it, and the seed that replays it.
//
//	DIFF_A, DIFF_B   client URLs of the clusters, comma separated
//	DIFF_SEED        replays a run (else from the clock)
//	DIFF_REQUESTS    how many requests (20000)
//	DIFF_RESTART     command that kills and restarts all of A; run twice in between, so that what A reads back from
//	                 its disks is compared as well (optional)
//
// Not compared: cluster and member ids, raft terms, the order among equals of a custom sort, the hash of HashKV at the
// revision that was compacted to last, and HashKV at all at those compacted to before (etcd answers from the hashes that
// it kept in memory of its last ten compactions, so that a restart shows); for the same reason nobody compacts to revision 0.
// A part of the answers is spoiled in one random field and compared again: the comparer must see it (T01).
package main

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

const historyLength = 20

func main() {
	seed := uint64(time.Now().UnixNano()) >> 16
	if given := os.Getenv("DIFF_SEED"); given != "" {
		seed = parse(given)
	}
	requests := uint64(20000)
	if given := os.Getenv("DIFF_REQUESTS"); given != "" {
		requests = parse(given)
	}
	fmt.Printf("DIFF_SEED=%d DIFF_REQUESTS=%d\n", seed, requests)
	if err := run(seed, int(requests)); err != nil {
		fmt.Printf("%v\nreplay with DIFF_SEED=%d\n", err, seed)
		os.Exit(1)
	}
}

func parse(number string) uint64 {
	value, err := strconv.ParseUint(number, 0, 64)
	if err != nil {
		fmt.Println(err)
		os.Exit(2)
	}
	return value
}

// run is one history. The two clusters must be fresh, so that their revisions agree from the start.
func run(seed uint64, requests int) error {
	a, err := dial("A", os.Getenv("DIFF_A"))
	if err != nil {
		return err
	}
	defer a.close()
	b, err := dial("B", os.Getenv("DIFF_B"))
	if err != nil {
		return err
	}
	defer b.close()

	random := rand.New(rand.NewPCG(seed, 0))
	gen := newGenerator(random)
	check := &selfcheck{random: rand.New(rand.NewPCG(seed, 1))}
	seen := map[string]int{}
	var history []*request
	start := time.Now()

	for n := range requests {
		if n == requests/3 || n == 2*requests/3 {
			if err := restart(a); err != nil {
				return err
			}
		}
		req := gen.next()
		history = append(history, req)
		if len(history) > historyLength {
			history = history[1:]
		}
		answerA, answerB := ask(a, b, req, random)
		if difference := compare(req, answerA, answerB); difference != "" {
			return fmt.Errorf("%s\nrequest %d differs: %s\n%s\nA: %s\nB: %s", describeAll(history[:len(history)-1]),
				n, difference, req, answerA, answerB)
		}
		if err := unavailable(answerA); err != nil {
			return fmt.Errorf("a cluster was not available: %w", err)
		}
		if err := check.try(req, answerA); err != nil {
			return err
		}
		gen.learn(req, answerA)
		seen[req.kind+" "+answerA.outcome()]++
		if txn, isTxn := req.message.(*pb.TxnRequest); isTxn && answerA.err == nil {
			seen[fmt.Sprintf("Txn OK, %d deep", depth(txn))]++
		}
	}
	if err := compareEnds(a, b); err != nil {
		return err
	}
	for _, what := range slices.Sorted(maps.Keys(seen)) {
		fmt.Printf("%7d  %s\n", seen[what], what)
	}
	if requests >= 20000 {
		if err := enough(seen); err != nil {
			return err
		}
	}
	fmt.Printf("%d requests without a difference in %.0f s; %d spoiled answers, all caught\n",
		requests, time.Since(start).Seconds(), check.caught)
	return nil
}

func restart(a *cluster) error {
	command := os.Getenv("DIFF_RESTART")
	if command == "" {
		return nil
	}
	if output, err := exec.Command("bash", "-c", command).CombinedOutput(); err != nil {
		return fmt.Errorf("restart: %w\n%s", err, output)
	}
	return a.awaitAll()
}

// enough says whether the history reached what it is there to reach: a generator gone stale must not pass (T03). Requests
// go to a random member of each, so that "compacted" and "future" are the same typed error on each (Q11).
func enough(seen map[string]int) error {
	for _, want := range []string{
		"Range OK", "Range key is not provided", "Range invalid sort option", "Range required revision has been compacted",
		"Range required revision is a future revision", "Put OK", "Put key is not provided", "Put key not found",
		"Put value is provided", "Put lease is provided", "Put requested lease not found", "Put request is too large",
		"DeleteRange OK", "DeleteRange key is not provided", "Txn OK, 1 deep", "Txn OK, 4 deep", "Txn key is not provided", "Txn key not found",
		"Txn duplicate key", "Txn too many operations", "Txn requested lease not found", "Txn compacted", "Txn future",
		"Txn request is too large", "Compact OK", "Compact compacted", "Compact future", "HashKV OK", "HashKV compacted",
		"HashKV future", "RangeStream OK", "RangeStream custom sort orders", "RangeStream revision filters",
		"Put received message larger than max", "Unknown unknown method", "Unknown unknown service", "Malformed",
	} {
		kind, text, _ := strings.Cut(want, " ")
		found := false
		for what := range seen {
			found = found || strings.HasPrefix(what, kind+" ") && strings.Contains(what, text)
		}
		if !found {
			return fmt.Errorf("no request came to %q: the test has lost its reach", want)
		}
	}
	return nil
}

// compareEnds holds the hashes of all members of both clusters against each other.
func compareEnds(a, b *cluster) error {
	var first string
	for _, c := range []*cluster{a, b} {
		for i := range c.conns {
			c.barrier(context.Background(), i)
			got := c.call(context.Background(), i, hashRequest(0)).comparable(hashRequest(0))
			if first == "" {
				first = got
			}
			if got != first {
				return fmt.Errorf("at the end, the hash of %s differs:\n%s\nfirst: %s", c.endpoints[i], got, first)
			}
		}
	}
	return nil
}
