// Command chaos puts a cluster under load and kills its members with SIGKILL at random moments, in turn, now and then
// all at once; each comes back with its data before the next goes. What the clients are told meanwhile must keep the
// rules of history.go; at the end every acknowledged put must be in the history of every member, and all members equal.
//
//	CHAOS_DIR      a cluster started by cluster.sh
//	CHAOS_SCRIPT   cluster.sh
//	CHAOS_SEED     the moments of the kills (else from the clock); the load itself is not replayed
//	CHAOS_ROUNDS   how many kills (30)
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	failoverDeadline = 20 * time.Second // from a kill to the next acknowledged put
	writesEachRound  = 20               // the least that makes a kill mean something (T03)
)

func main() {
	if err := run(); err != nil {
		fmt.Println("FAILED:", err)
		os.Exit(1)
	}
}

func number(name string, otherwise uint64) uint64 {
	value, err := strconv.ParseUint(cmp.Or(os.Getenv(name), fmt.Sprint(otherwise)), 0, 64)
	if err != nil {
		fmt.Println(err)
		os.Exit(2)
	}
	return value
}

func run() error {
	seed := number("CHAOS_SEED", uint64(time.Now().UnixNano())>>20)
	rounds := int(number("CHAOS_ROUNDS", 30))
	fmt.Printf("CHAOS_SEED=%d CHAOS_ROUNDS=%d\n", seed, rounds)
	random := rand.New(rand.NewPCG(seed, 0))

	urls, err := os.ReadFile(os.Getenv("CHAOS_DIR") + "/endpoints")
	if err != nil {
		return err
	}
	l, err := newLoad(strings.Split(strings.TrimSpace(string(urls)), ","))
	if err != nil {
		return err
	}
	start := time.Now()
	ctx, stop := context.WithCancel(context.Background())
	l.start(ctx)
	for n := range rounds {
		if err = round(l.history, random, n, len(l.stubs)); err != nil {
			break
		}
	}
	stop()
	l.wait()
	writes, reads, broken := l.history.counts()
	fmt.Printf("%d puts acknowledged, %d reads answered in %.0f s; without an answer:\n", writes, reads, time.Since(start).Seconds())
	for _, text := range slices.Sorted(maps.Keys(l.history.errors)) {
		fmt.Printf("%7d  %s\n", l.history.errors[text], text)
	}
	if err := errors.Join(err, broken); err != nil {
		return err
	}
	if err := l.verify(); err != nil {
		return err
	}
	fmt.Printf("every acknowledged put is on every member, and all are equal at revision %d\n", l.history.revision)
	return nil
}

// round kills one member, or every seventh time all, waits until puts go through again, and starts them again.
func round(h *history, random *rand.Rand, n, members int) error {
	victims := []string{fmt.Sprintf("m%d", n%members+1)}
	all := n%7 == 6
	if all {
		victims = nil
		for i := range members {
			victims = append(victims, fmt.Sprintf("m%d", i+1))
		}
	}
	before, readsBefore, _ := h.counts()
	time.Sleep(time.Duration(random.Int64N(int64(600 * time.Millisecond)))) // the random moment

	if err := cluster("kill", victims); err != nil {
		return err
	}
	killed := time.Now()
	served := "-"
	if !all && random.IntN(3) != 0 { // else it is back before the others notice
		for !h.ackedSince(killed) {
			if time.Since(killed) > failoverDeadline {
				return fmt.Errorf("round %d: no put was acknowledged for %v after %v was killed", n, failoverDeadline, victims)
			}
			time.Sleep(2 * time.Millisecond)
		}
		served = fmt.Sprintf("%d ms", time.Since(killed).Milliseconds())
		time.Sleep(time.Duration(random.Int64N(int64(400 * time.Millisecond)))) // the survivors go ahead
	}
	restarted := time.Now()
	if err := cluster("restart", victims); err != nil {
		return err
	}
	for !h.ackedSince(restarted) {
		if time.Since(restarted) > 2*failoverDeadline {
			return fmt.Errorf("round %d: no put was acknowledged after %v came back", n, victims)
		}
		time.Sleep(2 * time.Millisecond)
	}
	writes, reads, broken := h.counts()
	fmt.Printf("round %2d: killed %v, next put %s, healthy after %d ms; %d puts, %d reads\n", n, victims, served,
		time.Since(restarted).Milliseconds(), writes-before, reads-readsBefore)
	if broken == nil && (writes-before < writesEachRound || reads-readsBefore < writesEachRound) {
		return fmt.Errorf("round %d: too little load to mean anything", n)
	}
	return broken
}

func cluster(action string, members []string) error {
	arguments := append([]string{action, "--dir", os.Getenv("CHAOS_DIR")}, members...)
	if output, err := exec.Command(os.Getenv("CHAOS_SCRIPT"), arguments...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %v: %w\n%s", action, members, err, output)
	}
	return nil
}
