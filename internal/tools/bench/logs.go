package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// logs measures how fast logs are read: an error log of which two lines in five are permission failures, and an access log.
func (b *bench) logs(ctx context.Context, size int64) error {
	w := &world{root: filepath.Join(b.dir, "logs"), accounts: 2}
	if err := b.grown(w); err != nil {
		return err
	}
	b.note("writing logs of %d MiB", size>>20)
	faults, failed, err := writeLog(filepath.Join(b.dir, "error.log"), size, errorLine)
	if err != nil {
		return err
	}
	visits, _, err := writeLog(filepath.Join(b.dir, "access.log"), size, accessLine)
	if err != nil {
		return err
	}
	b.printf("\n## Logs of %d MiB\n", size>>20)
	reader := func(name, file string, lines int) *contender {
		return &contender{name: "rightful logs " + name, argv: []string{b.rightful, "logs", "--root", w.root, "--quiet", "--json", file}, entries: lines, ok: []int{1}}
	}
	errorLog, accessLog := filepath.Join(b.dir, "error.log"), filepath.Join(b.dir, "access.log")
	mine, access := reader("(error log)", errorLog, faults), reader("(access log)", accessLog, visits)
	// Into /dev/null it would end at the first line that matches.
	grep := &contender{name: "grep -c 'Permission denied'", argv: []string{"sh", "-c", `grep -c 'Permission denied' "$1" | cat`, "sh", errorLog}, entries: faults}
	if err := b.allFailures(ctx, mine, failed); err != nil {
		return err
	}
	cs := []*contender{mine, grep, access}
	goaccess := &contender{name: "goaccess", argv: []string{"goaccess", accessLog, "--log-format=COMBINED", "--no-progress", "-o", filepath.Join(b.dir, "report.json")}, entries: visits}
	if _, err := exec.LookPath("goaccess"); err == nil {
		cs = append(cs, goaccess)
	} else {
		b.note("goaccess is not installed: left out")
	}
	if err := b.contest(ctx, "reading logs", cs, b.rounds); err != nil {
		return err
	}
	b.printf("\n| command | MB/s | MB for a second of processor time |\n|---|---:|---:|\n")
	for _, c := range cs {
		b.printf("| %s | %.0f | %.0f |\n", c.name, speed(c, size), float64(size)/1e6/c.cpu().Seconds())
	}
	b.least("logs, error log", "MB/s", speed(mine, size), 200)
	b.least("logs, access log", "MB/s", speed(access, size), 200)
	b.under("memory of logs", "MiB", max(mine.rss(), access.rss()), 64)
	if len(cs) > 3 {
		b.faster("logs, access log", access, goaccess, 2)
	}
	return nil
}

// allFailures makes sure that every failure is seen before reading is measured.
func (b *bench) allFailures(ctx context.Context, c *contender, failures int) error {
	out, err := exec.CommandContext(ctx, c.argv[0], c.argv[1:]...).Output()
	if exit := (*exec.ExitError)(nil); err != nil && !(errors.As(err, &exit) && exit.ExitCode() == 1) {
		return fmt.Errorf("read logs: %w", err)
	}
	lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
	var sum struct{ Failures int }
	if err := json.Unmarshal(lines[len(lines)-1], &sum); err != nil || sum.Failures != failures {
		return fmt.Errorf("read logs: of %d failures %d were seen (%v)", failures, sum.Failures, err)
	}
	return nil
}

func speed(c *contender, size int64) float64 { return float64(size) / 1e6 / c.wall().Seconds() }

// writeLog writes lines until a log has its size, and counts them and the failures among them.
func writeLog(file string, size int64, line func(i int) (text string, failure bool)) (lines, failures int, err error) {
	f, err := os.Create(file)
	if err != nil {
		return 0, 0, err
	}
	out := bufio.NewWriterSize(f, 1<<20)
	for n := int64(0); n < size; lines++ {
		text, failure := line(lines)
		if failure {
			failures++
		}
		out.WriteString(text)
		n += int64(len(text))
	}
	if err := out.Flush(); err != nil {
		f.Close()
		return 0, 0, err
	}
	return lines, failures, f.Close()
}

func errorLine(i int) (string, bool) {
	head := fmt.Sprintf("[Sun Nov 22 %02d:%02d:%02d.%06d 2026] ", i/360_000%24, i/6000%60, i/100%60, i%1_000_000)
	root := fmt.Sprintf("/home/%s/public_html", name(i%2))
	client := fmt.Sprintf("[client 192.0.2.%d:%d] ", i%250, 1024+i%60_000)
	switch i % 5 {
	case 0:
		return head + "[core:error] [pid 5297:tid 5301] (13)Permission denied: " + client + "AH00035: access to /index.html denied (filesystem path '" + root +
			"') because search permissions are missing on a component of the path\n", true
	case 1:
		return head + "[core:error] [pid 5297:tid 5301] (13)Permission denied: " + client +
			fmt.Sprintf("AH00132: file permissions deny server access: %s/wp-content/uploads/%d.jpg, referer: https://www.example/a/b\n", root, i%700), true
	case 2:
		return head + "[authz_core:error] [pid 5297:tid 5301] " + client + "AH01630: client denied by server configuration: " + root + "/wp-config.php.bak\n", false
	}
	return head + "[proxy_fcgi:error] [pid 5297:tid 5301] " + client + "AH01071: Got error 'PHP message: PHP Warning:  Undefined array key \"page\" in " + root +
		"/wp-content/plugins/shop/class-cart.php on line 217', referer: https://www.example/cart\n", false
}

func accessLine(i int) (string, bool) {
	status := 200
	if i%50 == 0 {
		status = 403
	}
	return fmt.Sprintf("192.0.2.%d - - [22/Nov/2026:%02d:%02d:%02d +0000] \"GET /wp-content/uploads/%d.jpg?x=1 HTTP/1.1\" %d %d \"https://www.example/a/b\" \"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\"\n",
		i%250, i/360_000%24, i/6000%60, i/100%60, i%9000, status, 1000+i%90_000), false
}
