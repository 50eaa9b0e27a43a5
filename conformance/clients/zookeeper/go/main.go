// Command zookeeper prints what a server of ZooKeeper's protocol answers to github.com/go-zookeeper/zk.
//
//	zookeeper HOST:PORT
//
// Each step is a line, with its answer or its error. What depends on turns is told by its outcome.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-zookeeper/zk"
)

const (
	timeout  = 30 * time.Second
	patience = 20 * time.Second
	parties  = 3
)

var (
	address string
	section string
	steps   int
	open    = zk.WorldACL(zk.PermAll)
)

func say(step string, answer any, err error) {
	steps++
	text := fmt.Sprint(show(answer))
	if err != nil {
		text = "error " + err.Error()
	}
	fmt.Printf("go %s %d %s => %s\n", section, steps, step, text)
}

func begin(name string) {
	section, steps = name, 0
}

func show(value any) any {
	switch value := value.(type) {
	case []byte:
		return fmt.Sprintf("%q", value)
	case *zk.Stat:
		if value == nil {
			return "no stat"
		}
		return fmt.Sprintf("[c%d m%d p%d v%d,%d,%d owned %t size %d children %d]", value.Czxid, value.Mzxid, value.Pzxid,
			value.Version, value.Cversion, value.Aversion, value.EphemeralOwner > 0, value.DataLength, value.NumChildren)
	case zk.Event:
		return fmt.Sprintf("%v %v %s", value.Type, value.State, value.Path)
	case []string:
		return slices.Sorted(slices.Values(value))
	}
	return value
}

// connect waits for the session: the library queues requests before it is there.
func connect(dial zk.Dialer) (*zk.Conn, error) {
	if dial == nil {
		dial = net.DialTimeout
	}
	conn, events, err := zk.Connect([]string{address}, timeout, zk.WithLogInfo(false), zk.WithDialer(dial))
	if err != nil {
		return nil, err
	}
	deadline := time.After(patience)
	for {
		select {
		case event := <-events:
			if event.State == zk.StateHasSession {
				return conn, nil
			}
		case <-deadline:
			return nil, errors.New("no session")
		}
	}
}

func next(events <-chan zk.Event) string {
	select {
	case event := <-events:
		return fmt.Sprint(show(event))
	case <-time.After(patience):
		return "no event"
	}
}

func until(condition func() bool) string {
	for deadline := time.Now().Add(patience); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			return "never"
		}
	}
	return "yes"
}

func creates(conn *zk.Conn) {
	begin("creates")
	create := func(path string, flags int32) {
		name, err := conn.Create(path, []byte("x"), flags, open)
		say("create "+path, name, err)
	}
	for flags, path := range []string{"/p", "/e", "/s-", "/es-"} {
		create(path, int32(flags))
		create(path, int32(flags))
	}
	create("/none/x", 0)
	create("/e/x", 0)
	create("/p/child", 0)
	create("/flags", 9)
	name, err := conn.CreateContainer("/c", nil, zk.FlagContainer, open)
	say("container", name, err)
	name, err = conn.CreateTTL("/t", nil, zk.FlagTTL, open, 100*time.Second)
	say("time to live", name, err)
	name, err = conn.CreateTTL("/ts-", nil, zk.FlagPersistentSequentialWithTTL, open, 100*time.Second)
	say("and sequential", name, err)
	name, err = conn.CreateTTL("/t0", nil, zk.FlagTTL, open, 0)
	say("no time to live", name, err)
	name, err = conn.CreateTTL("/t1", nil, zk.FlagTTL, open, -time.Second)
	say("less than none", name, err)
	name, err = conn.Create("/acl", nil, 0, nil)
	say("without a list", name, err)
	name, err = conn.CreateProtectedEphemeralSequential("/p/lock-", nil, open)
	say("protected", strings.HasSuffix(name, "-lock-0000000001"), err)
}

func reads(conn *zk.Conn) {
	begin("reads")
	for _, path := range []string{"/p", "/e", "/none", "/"} {
		found, stat, err := conn.Exists(path)
		say("exists "+path, []any{found, show(stat)}, err)
		data, stat, err := conn.Get(path)
		say("get "+path, []any{show(data), show(stat)}, err)
		_, stat, err = conn.Children(path)
		say("children "+path, stat, err)
		list, stat, err := conn.GetACL(path)
		say("acl "+path, []any{list, show(stat)}, err)
		synced, err := conn.Sync(path)
		say("sync "+path, synced, err)
	}
	children, _, err := conn.Children("/")
	say("children of the root", children, err)
}

func writes(conn *zk.Conn) {
	begin("writes")
	for _, version := range []int32{3, 0, -1} {
		stat, err := conn.Set("/p", []byte("new"), version)
		say(fmt.Sprint("set at ", version), stat, err)
	}
	stat, err := conn.SetACL("/p", zk.WorldACL(zk.PermAll), 5)
	say("set a list at 5", stat, err)
	stat, err = conn.SetACL("/p", zk.WorldACL(zk.PermAll), 0)
	say("set a list at 0", stat, err)
	for _, path := range []string{"/p", "/p/child", "/none", "/"} {
		say("delete "+path, nil, conn.Delete(path, -1))
	}
}

func transactions(conn *zk.Conn) {
	begin("multi")
	show := func(step string, results []zk.MultiResponse, err error) {
		var texts []string
		for _, result := range results {
			texts = append(texts, fmt.Sprint(result.String, show(result.Stat), result.Error))
		}
		// Their order is that of the operations.
		say(step, strings.Join(texts, "; "), err)
	}
	results, err := conn.Multi(
		&zk.CreateRequest{Path: "/m", Data: []byte("1"), Acl: open},
		&zk.CreateRequest{Path: "/m/e-", Acl: open, Flags: zk.FlagEphemeralSequential},
		&zk.SetDataRequest{Path: "/m", Data: []byte("2"), Version: 0},
		&zk.CheckVersionRequest{Path: "/m", Version: 1},
		&zk.CreateRequest{Path: "/m/x", Acl: open}, &zk.DeleteRequest{Path: "/m/x", Version: -1})
	show("all of it", results, err)
	results, err = conn.Multi(
		&zk.CreateRequest{Path: "/m/y", Acl: open}, &zk.CheckVersionRequest{Path: "/m", Version: 7},
		&zk.DeleteRequest{Path: "/m/y", Version: -1})
	show("none of it", results, err)
	results, err = conn.Multi()
	show("nothing", results, err)
	children, stat, err := conn.Children("/m")
	say("left", []any{children, fmt.Sprint(stat.Version)}, err)
}

func access(conn *zk.Conn) {
	begin("access")
	bob, err := connect(nil)
	say("connect", nil, err)
	say("as bob", nil, bob.AddAuth("digest", []byte("bob:secret")))
	name, err := bob.Create("/bob", []byte("b"), 0, zk.AuthACL(zk.PermAll))
	say("bob's", name, err)
	list, _, err := bob.GetACL("/bob")
	say("its list", list, err)
	_, _, err = conn.Get("/bob")
	say("another", nil, err)
	stat, err := bob.SetACL("/bob", append(zk.DigestACL(zk.PermAll, "bob", "secret"), zk.WorldACL(zk.PermRead)...), 0)
	say("opened to read", stat, err)
	data, _, err := conn.Get("/bob")
	say("another reads", data, err)
	list, _, err = conn.GetACL("/bob")
	say("and sees the list", list, err)
	_, err = conn.Set("/bob", nil, -1)
	say("but cannot write", nil, err)
	name, err = conn.Create("/creator", nil, 0, zk.AuthACL(zk.PermAll))
	say("a creator without a name", name, err)
	bob.Close()
	nobody, err := connect(nil)
	say("connect", nil, err)
	say("a scheme that is not there", nil, nobody.AddAuth("unknown", []byte("x")))
	nobody.Close()
}

func watches(conn *zk.Conn) {
	begin("watch")
	_, _, created, err := conn.ExistsW("/w")
	say("exists", nil, err)
	_, err = conn.Create("/w", nil, 0, open)
	say("created", next(created), err)
	_, _, changed, err := conn.GetW("/w")
	say("get", nil, err)
	_, _, child, err := conn.ChildrenW("/w")
	say("children", nil, err)
	_, err = conn.Set("/w", []byte("1"), -1)
	say("changed", next(changed), err)
	_, err = conn.Create("/w/a", nil, 0, open)
	say("a child", next(child), err)
	_, _, child, err = conn.ChildrenW("/w")
	say("children", nil, err)
	say("the child deleted", nil, conn.Delete("/w/a", -1))
	say("told", next(child), nil)
	_, _, changed, err = conn.ExistsW("/w")
	say("exists", nil, err)
	_, _, child, err = conn.ChildrenW("/w")
	say("children", nil, err)
	say("deleted", nil, conn.Delete("/w", -1))
	say("the data watch", next(changed), nil)
	say("the child watch", next(child), nil)
	_, _, _, err = conn.GetW("/w")
	say("get what is not there", nil, err)
}

func sessions(conn *zk.Conn) {
	begin("session")
	var link atomic.Value
	var cut atomic.Bool
	brief, err := connect(func(network, to string, within time.Duration) (net.Conn, error) {
		if cut.Load() {
			return nil, errors.New("cut")
		}
		conn, err := net.DialTimeout(network, to, within)
		if err == nil {
			link.Store(conn)
		}
		return conn, err
	})
	say("connect", nil, err)
	id := brief.SessionID()
	_, err = brief.Create("/mine", nil, zk.FlagEphemeral, open)
	say("a node", nil, err)
	_, _, changed, err := brief.GetW("/mine")
	say("watched", nil, err)
	_, _, created, err := brief.ExistsW("/missed")
	say("and another", nil, err)
	cut.Store(true)
	link.Load().(net.Conn).Close()
	say("cut off", until(func() bool { return brief.State() != zk.StateHasSession }), nil)
	_, err = conn.Set("/mine", []byte("meanwhile"), -1)
	say("changed meanwhile", nil, err)
	_, err = conn.Create("/missed", nil, 0, open)
	say("created meanwhile", nil, err)
	cut.Store(false)
	say("goes on", until(func() bool { return brief.State() == zk.StateHasSession }), nil)
	say("the same session", brief.SessionID() == id, nil)
	say("told what it missed", next(changed), nil)
	say("and this", next(created), nil)
	_, stat, err := brief.Exists("/mine")
	say("its node", stat.EphemeralOwner == id, err)
	_, _, gone, err := conn.ExistsW("/mine")
	say("another watches it", nil, err)
	brief.Close()
	say("gone with the session", next(gone), nil)
}

func locks() {
	begin("lock")
	var inside, most, turns atomic.Int32
	var wait sync.WaitGroup
	failures := make(chan error, parties)
	for range parties {
		wait.Go(func() {
			conn, err := connect(nil)
			if err != nil {
				failures <- err
				return
			}
			defer conn.Close()
			for range 5 {
				lock := zk.NewLock(conn, "/deep/lock", open)
				if err := lock.Lock(); err != nil {
					failures <- err
					return
				}
				if now := inside.Add(1); now > most.Load() {
					most.Store(now)
				}
				turns.Add(1)
				inside.Add(-1)
				if err := lock.Unlock(); err != nil {
					failures <- err
					return
				}
			}
		})
	}
	wait.Wait()
	close(failures)
	say("one at a time", fmt.Sprintf("%d turns, at most %d inside", turns.Load(), most.Load()), <-failures)
}

// Last, as what is refused takes a zxid at one server and not at another.
func reconfigure(conn *zk.Conn) {
	begin("reconfigure")
	_, err := conn.IncrementalReconfig([]string{"server.2=a:1:2;3"}, nil, -1)
	say("a server more", nil, err)
}

func main() {
	address = os.Args[1]
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	context.AfterFunc(ctx, func() {
		if ctx.Err() == context.DeadlineExceeded {
			panic("it hangs")
		}
	})
	conn, err := connect(nil)
	if err != nil {
		panic(err)
	}
	creates(conn)
	reads(conn)
	writes(conn)
	transactions(conn)
	access(conn)
	watches(conn)
	sessions(conn)
	locks()
	reconfigure(conn)
	conn.Close()
}
