package hostbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"time"

	"rightful"
)

// DemoOptions says what to show and where.
type DemoOptions struct {
	// Binary is the rightful binary that works in the box. It is needed.
	Binary string
	// Stdout receives the story and what the commands print, Stderr what they say beside it.
	Stdout, Stderr io.Writer
	// Panel and Accounts are those of [Spec].
	Panel    string
	Accounts int
	// Shell opens the box's shell on this process's terminal instead of telling the story.
	Shell bool
}

// Demo replays the bad day on a real server: an ownership script breaks the sites; rightful finds them, repairs them,
// takes the repair back, and takes that back. Every command is printed before its own real output, and every step is
// checked against the real web server and the real file system; the first that does not hold is the error, with what
// differed.
func Demo(ctx context.Context, o DemoOptions) (err error) {
	if o.Stdout == nil {
		o.Stdout = io.Discard
	}
	if o.Stderr == nil {
		o.Stderr = io.Discard
	}
	if o.Binary == "" {
		return errors.New("start demo: no rightful binary given")
	}
	began := time.Now()
	cpanel := o.Panel == "" || o.Panel == "cpanel"
	b, err := Start(ctx, Spec{
		Panel: o.Panel, Accounts: o.Accounts, Binary: o.Binary,
		Mail: cpanel && len(mailRequirements()) == 0, // a machine without a mail server shows the rest
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	d := &demo{box: b, out: o.Stdout, err: o.Stderr}
	servers := "Apache, PHP-FPM and suEXEC"
	if b.world.nginx {
		servers = "nginx and PHP-FPM"
	}
	d.say("A %s server with %d accounts and %d sites: %s, all real, started in %.1f s.", b.Panel,
		len(b.world.accounts), len(b.Sites()), servers, time.Since(began).Seconds())
	d.say("It lives in namespaces of its own; nothing of this machine is touched.")
	if o.Shell {
		return b.Shell(ctx)
	}
	if err := d.story(ctx); err != nil {
		return fmt.Errorf("replay the bad day: %w", err)
	}
	d.say("%d accounts, %d sites: %d broken by one script, found, repaired, taken back and repaired again in %.1f s.",
		len(b.world.accounts), len(b.Sites()), d.broken, time.Since(began).Seconds())
	return nil
}

// A demo is one replay.
type demo struct {
	box      *Box
	out, err io.Writer
	broken   int
}

func (d *demo) story(ctx context.Context) error {
	d.chapter("Every site answers")
	if err := d.expectAll(ctx, http.StatusOK); err != nil {
		return err
	}

	d.chapter("Somebody runs a script that he found")
	d.command("cat " + scriptPath)
	fmt.Fprint(d.out, d.box.OwnershipScript())
	d.command(scriptPath)
	if err := ChownPublicHTMLs(ctx, d.box); err != nil {
		return err
	}
	broken, err := d.box.Listing(ctx)
	if err != nil {
		return err
	}

	d.chapter("One visitor complains; the error log names that one site")
	visited := d.box.Sites()[0].Host
	code, _, err := d.box.Get(ctx, visited, "/")
	if err != nil {
		return fmt.Errorf("visit %q: %w", visited, err)
	}
	fmt.Fprintf(d.out, "%d  http://%s/\n", code, visited)
	if code != http.StatusForbidden {
		return fmt.Errorf("visit %q after the script: status %d, want 403", visited, code)
	}
	log := "grep -h 'Permission denied' /var/log/apache2/*err*"
	if d.box.world.nginx {
		log = "grep -h 'Permission denied' /var/log/nginx/*err*"
	}
	d.command(log)
	lines, err := d.box.Run(ctx, log)
	if err != nil {
		return err
	}
	fmt.Fprint(d.out, lines)

	d.chapter("rightful names them all, visited or not")
	if _, err := d.run(ctx, 1, "rightful", "check"); err != nil {
		return err
	}
	predicted, err := d.downByCheck(ctx)
	if err != nil {
		return err
	}
	if err := d.unvisited(ctx); err != nil {
		return err
	}
	d.say("The web server itself, asked for every site:")
	down := d.table(ctx)
	d.broken = len(down)
	if len(down)*2 < len(d.box.Sites()) {
		return fmt.Errorf("the script broke %d of %d sites, want most of them", len(down), len(d.box.Sites()))
	}
	if !slices.Equal(predicted, down) {
		return fmt.Errorf("rightful check says that %q are down, and the web server that %q are", predicted, down)
	}

	d.chapter("Repair: one canary first, verified by real requests, then the rest")
	if _, err := d.run(ctx, 0, "rightful", "fix", "--yes"); err != nil {
		return err
	}
	if err := d.expectAll(ctx, http.StatusOK); err != nil {
		return err
	}
	repaired, err := d.box.Listing(ctx)
	if err != nil {
		return err
	}

	d.chapter("Take it back, exactly")
	if _, err := d.run(ctx, 0, "rightful", "undo", "--yes"); err != nil {
		return err
	}
	if again := d.table(ctx); !slices.Equal(again, down) {
		return fmt.Errorf("after the undo %q are down, and after the script %q were", again, down)
	}
	if err := d.expectListing(ctx, "after the undo", broken); err != nil {
		return err
	}

	d.chapter("And take that back: redo is the undo of an undo, by name")
	if _, err := d.run(ctx, 0, "rightful", "runs"); err != nil {
		return err
	}
	undo, err := d.newestUndo(ctx)
	if err != nil {
		return err
	}
	if _, err := d.run(ctx, 0, "rightful", "undo", undo, "--yes"); err != nil {
		return err
	}
	if err := d.expectAll(ctx, http.StatusOK); err != nil {
		return err
	}
	if err := d.expectListing(ctx, "after the second undo", repaired); err != nil {
		return err
	}
	if err := d.guarded(ctx, repaired); err != nil {
		return err
	}
	return d.rescued(ctx)
}

// unvisited shows what no log can tell: which sites are broken and were not visited, and why one of them is.
func (d *demo) unvisited(ctx context.Context) error {
	d.chapter("What the logs know, and what they cannot")
	if _, err := d.run(ctx, 1, "rightful", "logs"); err != nil {
		return err
	}
	sites := d.box.Sites()
	_, err := d.run(ctx, 1, "rightful", "explain", "http://"+sites[len(sites)-1].Host+"/")
	return err
}

// guarded is the same day with guard in front of the script.
func (d *demo) guarded(ctx context.Context, healthy string) error {
	d.chapter("The second act: the same script, but guarded")
	if _, err := d.run(ctx, 4, "rightful", "guard", "--", scriptPath); err != nil {
		return err
	}
	if err := d.expectAll(ctx, http.StatusOK); err != nil {
		return err
	}
	if err := d.expectListing(ctx, "after the guarded script", healthy); err != nil {
		return err
	}
	d.say("There is nothing to repair:")
	_, err := d.run(ctx, 0, "rightful", "check")
	return err
}

// rescued is the other bad day: a customer deletes a whole home.
func (d *demo) rescued(ctx context.Context) error {
	d.chapter("The third act: a customer deletes a whole home")
	d.say("Last night there were a snapshot, the vault, and a backup that no panel would take back: a plain tar.")
	const backup = "/root/alice.tar.gz"
	_, _, home := d.box.world.identity("alice")
	for _, argv := range [][]string{
		{"rightful", "snapshot", "take"},
		{"rightful", "vault", "take"},
		{"tar", "-C", "/", "-czf", backup, strings.TrimPrefix(home, "/")},
		{"sh", "-c", "rm -rf ~alice/* ~alice/.[!.]*"},
	} {
		if _, err := d.run(ctx, 0, argv...); err != nil {
			return err
		}
	}
	down := d.table(ctx)
	if len(down) == 0 {
		return errors.New("every site answers, though a home is deleted")
	}
	if err := d.logins(ctx, false); err != nil {
		return err
	}
	if _, err := d.run(ctx, 0, "rightful", "rescue", "alice", "--from", backup, "--yes"); err != nil {
		return err
	}
	if err := d.expectAll(ctx, http.StatusOK); err != nil {
		return err
	}
	if err := d.logins(ctx, true); err != nil {
		return err
	}
	_, err := d.run(ctx, 0, "rightful", "rescue", "alice", "--finish", "--yes")
	return err
}

// logins tries alice's mailboxes with the passwords that they always had.
func (d *demo) logins(ctx context.Context, want bool) error {
	for _, m := range d.box.Mailboxes() {
		if m.Account != "alice" {
			continue
		}
		err := d.box.LogIn(ctx, m.Address, m.Password)
		switch {
		case err != nil && !errors.Is(err, ErrLogin):
			return err
		case (err == nil) != want:
			return fmt.Errorf("login to %s with its password: %v", m.Address, err)
		case want:
			d.say("IMAP: %s logs in with the password that it always had", m.Address)
		default:
			d.say("IMAP: %s cannot log in", m.Address)
		}
	}
	return nil
}

func (d *demo) chapter(title string) { fmt.Fprintf(d.out, "\n== %s\n", title) }

func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.out, format+"\n", args...) }

func (d *demo) command(line string) { fmt.Fprintf(d.out, "\nbox# %s\n", line) }

// run runs a command in the box before the reader's eyes and returns what it printed.
func (d *demo) run(ctx context.Context, want int, argv ...string) (string, error) {
	d.command(strings.Join(argv, " "))
	return d.quiet(ctx, want, d.out, argv...)
}

// quiet runs a command whose output goes to w, and demands its exit code.
func (d *demo) quiet(ctx context.Context, want int, w io.Writer, argv ...string) (string, error) {
	var out bytes.Buffer
	cmd := d.box.Command(ctx, argv[0], argv[1:]...)
	cmd.Stdout = io.MultiWriter(&out, w)
	cmd.Stderr = d.err
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return "", fmt.Errorf("run %q: %w", argv, err)
	}
	if err := ctx.Err(); err != nil {
		return "", err
	}
	if got := cmd.ProcessState.ExitCode(); got != want {
		return "", fmt.Errorf("run %q: exit code %d, want %d", argv, got, want)
	}
	return out.String(), nil
}

// table prints what every site answers and returns the names of those that do not answer 200, sorted.
func (d *demo) table(ctx context.Context) (down []string) {
	codes := d.box.StatusAll(ctx)
	counts := map[int]int{}
	for _, s := range d.box.Sites() {
		fmt.Fprintf(d.out, "%3d  %s\n", codes[s.Host], s.Host)
		counts[codes[s.Host]]++
		if codes[s.Host] != http.StatusOK {
			down = append(down, s.Host)
		}
	}
	var sum []string
	for _, code := range slices.Sorted(maps.Keys(counts)) {
		sum = append(sum, fmt.Sprintf("%d answer %d", counts[code], code))
	}
	d.say("%s", strings.Join(sum, ", "))
	slices.Sort(down)
	return down
}

func (d *demo) expectAll(ctx context.Context, want int) error {
	if down := d.table(ctx); len(down) > 0 {
		return fmt.Errorf("%d sites do not answer %d: %q", len(down), want, down)
	}
	return ctx.Err()
}

func (d *demo) expectListing(ctx context.Context, when, want string) error {
	got, err := d.box.Listing(ctx)
	if err != nil {
		return err
	}
	if diff := Differ(want, got, 10); len(diff) > 0 {
		return fmt.Errorf("%s owners, modes or ACLs are not what they were:\n%s", when, strings.Join(diff, "\n"))
	}
	d.say("Owner, group, mode and ACL of every entry: exactly as before.")
	return nil
}

// downByCheck asks rightful which sites are down, sorted by name.
func (d *demo) downByCheck(ctx context.Context) ([]string, error) {
	out, err := d.quiet(ctx, 1, io.Discard, "rightful", "--json", "check")
	if err != nil {
		return nil, err
	}
	var down []string
	err = eachJSON(out, "site", func(v *rightful.Verdict) {
		if v.State == rightful.SiteDown {
			down = append(down, v.Site)
		}
	})
	slices.Sort(down)
	return down, err
}

// newestUndo asks rightful for the ID of the last run that took another back.
func (d *demo) newestUndo(ctx context.Context) (string, error) {
	out, err := d.quiet(ctx, 0, io.Discard, "rightful", "--json", "runs")
	if err != nil {
		return "", err
	}
	var last rightful.Run
	err = eachJSON(out, "run", func(r *rightful.Run) {
		if r.Undoes != "" && !r.Started.Before(last.Started) {
			last = *r
		}
	})
	if err == nil && last.ID == "" {
		err = errors.New("rightful runs names no run that took another back")
	}
	return last.ID, err
}

// eachJSON calls f for each line of that kind.
func eachJSON[T any](lines, kind string, f func(*T)) error {
	for line := range strings.Lines(lines) {
		var head struct {
			Kind string `json:"kind"`
		}
		if err := json.Unmarshal([]byte(line), &head); err != nil {
			return fmt.Errorf("read JSON line %q: %w", line, err)
		}
		if head.Kind != kind {
			continue
		}
		v := new(T)
		if err := json.Unmarshal([]byte(line), v); err != nil {
			return fmt.Errorf("read JSON line %q: %w", line, err)
		}
		f(v)
	}
	return nil
}
