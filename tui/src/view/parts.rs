//! What screens are made of: lines, sections, tables, meters, charts.

use ratatui::buffer::Buffer;
use ratatui::layout::{Alignment, Rect};
use ratatui::style::Style;
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Chart, Dataset, GraphType, Widget};

use crate::state::series::Series;
use crate::text;
use crate::theme::Theme;

/// Text of any origin as a span: always clean.
pub(crate) fn say(text: impl AsRef<str>, style: Style) -> Span<'static> {
    Span::styled(text::clean(text.as_ref()), style)
}

/// Writes one line at row `row` of `area`; rows outside it are dropped.
pub(crate) fn put(buffer: &mut Buffer, area: Rect, row: u16, line: &Line<'_>) {
    if row < area.height {
        buffer.set_line(area.x, area.y + row, line, area.width);
    }
}

/// Writes a line that ends at the right edge of `area`.
pub(crate) fn put_right(buffer: &mut Buffer, area: Rect, row: u16, line: &Line<'_>) {
    let width = (line.width() as u16).min(area.width);
    if row < area.height {
        buffer.set_line(area.right() - width, area.y + row, line, width);
    }
}

/// A titled rule; returns the area below it.
pub(crate) fn section(theme: Theme, title: &str, area: Rect, buffer: &mut Buffer) -> Rect {
    if area.height == 0 {
        return area;
    }
    let rule = usize::from(area.width).saturating_sub(text::width(title) + 1);
    let line = Line::from(vec![
        say(title, theme.accent_strong()),
        Span::raw(" "),
        Span::styled("─".repeat(rule), theme.faint()),
    ]);
    put(buffer, area, 0, &line);
    below(area, 1)
}

/// `area` without its first `rows` rows.
pub(super) fn below(area: Rect, rows: u16) -> Rect {
    let rows = rows.min(area.height);
    Rect {
        y: area.y + rows,
        height: area.height - rows,
        ..area
    }
}

/// `area` with a margin on both sides.
pub(crate) fn inset(area: Rect, columns: u16) -> Rect {
    let columns = columns.min(area.width / 2);
    Rect {
        x: area.x + columns,
        width: area.width - 2 * columns,
        ..area
    }
}

/// A column of a table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    /// Its heading.
    pub title: &'static str,
    /// Its width in cells, without the gap behind it.
    pub width: usize,
    /// Whether its cells stand at its right edge, as numbers do.
    pub right: bool,
}

/// A column whose cells begin at its left edge.
pub(super) const fn left(title: &'static str, width: usize) -> Column {
    Column {
        title,
        width,
        right: false,
    }
}

/// A column whose cells end at its right edge.
pub(super) const fn right(title: &'static str, width: usize) -> Column {
    Column {
        title,
        width,
        right: true,
    }
}

/// The heading of a table.
pub(super) fn heading(theme: Theme, columns: &[Column]) -> Line<'static> {
    let cells = columns
        .iter()
        .map(|column| Span::styled(column.title, theme.dim()))
        .collect();
    row(false, theme, columns, cells)
}

/// A row of a table; the chosen one carries `▸` and is bold.
pub(super) fn row(
    chosen: bool,
    theme: Theme,
    columns: &[Column],
    cells: Vec<Span<'static>>,
) -> Line<'static> {
    let mark = if chosen { "▸ " } else { "  " };
    let mut spans = vec![Span::styled(mark, theme.accent_strong())];
    for (column, cell) in columns.iter().zip(cells) {
        let content = text::fit(&cell.content, column.width);
        let pad = " ".repeat(column.width.saturating_sub(text::width(&content)));
        let style = if chosen {
            cell.style.patch(theme.chosen())
        } else {
            cell.style
        };
        let content = Span::styled(content, style);
        if column.right {
            spans.extend([Span::raw(pad), content]);
        } else {
            spans.extend([content, Span::raw(pad)]);
        }
        spans.push(Span::raw("  "));
    }
    Line::from(spans)
}

/// A bar that is filled to a share from 0 to 1.
pub(crate) fn meter(theme: Theme, share: f64, cells: usize, style: Style) -> [Span<'static>; 2] {
    let share = if share.is_finite() { share } else { 0.0 };
    let filled = (share.clamp(0.0, 1.0) * cells as f64).round() as usize;
    [
        Span::styled("━".repeat(filled), style),
        Span::styled("─".repeat(cells - filled), theme.faint()),
    ]
}

/// Values from 0 to 1 as a row of bars, one cell each. None fills its cell, so
/// that rows of a table stay apart.
pub(super) fn bars(values: &[f64]) -> String {
    const BARS: [char; 7] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇'];
    values
        .iter()
        .map(|value| {
            let step = (value.clamp(0.0, 1.0) * 6.0).round();
            BARS[if step.is_finite() { step as usize } else { 0 }]
        })
        .collect()
}

/// Like [`bars`], for rewards: one that earned nothing is a dot.
pub(super) fn rewards(values: &[f64]) -> String {
    values
        .iter()
        .map(|value| {
            if *value > 0.0 {
                // Something earned must not look like nothing.
                bars(&[value.max(0.2)])
            } else {
                "·".to_owned()
            }
        })
        .collect()
}

/// The whole of a curve as bars in at most `cells` cells.
pub(super) fn spark(series: &Series, cells: usize) -> String {
    bars(&series.squeezed(cells))
}

/// A curve in a chart.
pub(super) struct Curve<'a> {
    /// The values.
    pub series: &'a Series,
    /// Its style.
    pub style: Style,
    /// Drawn as single points (`•`) and not as a line: a second curve must be
    /// told from the first without colour.
    pub points: bool,
}

/// What a chart's height means.
#[derive(Debug, Clone, Copy)]
pub(super) enum Scale {
    /// From 0 to 100%.
    Share,
    /// From the least value to the greatest, with a little room.
    Fitted,
    /// The same, and values read as shares: small ones would lie flat on the
    /// ground of [`Scale::Share`].
    FittedShare,
}

/// The least and the greatest value that a chart shows.
fn bounds<'a>(scale: Scale, points: impl Iterator<Item = &'a (f64, f64)>) -> (f64, f64) {
    if matches!(scale, Scale::Share) {
        return (0.0, 1.0);
    }
    let (low, high) = points.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), (_, y)| {
        (low.min(*y), high.max(*y))
    });
    // A flat curve runs through the middle.
    let room = ((high - low) * 0.1).max(high.abs() * 0.01).max(1e-6);
    (low - room, high + room)
}

/// A chart with axes: `what` names a step of the horizontal one.
pub(super) fn chart(
    theme: Theme,
    curves: &[Curve<'_>],
    scale: Scale,
    what: &str,
    area: Rect,
    buffer: &mut Buffer,
) {
    let data: Vec<Vec<(f64, f64)>> = curves
        .iter()
        .map(|curve| {
            let points = curve.series.points();
            points.map(|(x, y)| (x as f64, y)).collect()
        })
        .collect();
    let all = || data.iter().flatten();
    let Some(first) = all().map(|point| point.0).reduce(f64::min) else {
        nothing(theme, "nothing yet", area, buffer);
        return;
    };
    let last = all().map(|point| point.0).fold(first, f64::max);
    let (low, high) = bounds(scale, all());
    let label = |value: f64| match scale {
        Scale::Share => format!("{:.0}%", 100.0 * value),
        Scale::FittedShare => text::share(value),
        Scale::Fitted if high - low < 0.5 => text::number(value, 3),
        Scale::Fitted => text::number(value, 2),
    };
    let labels = [low, f64::midpoint(low, high), high].map(label);
    // A flat chart has no room for a label in the middle.
    let labels: Vec<Line<'_>> = labels
        .into_iter()
        .enumerate()
        .filter(|(index, _)| area.height > 6 || *index != 1)
        .map(|(_, label)| Line::styled(label, theme.dim()))
        .collect();
    let datasets = curves
        .iter()
        .zip(&data)
        .map(|(curve, data)| {
            let (marker, graph) = if curve.points {
                (Marker::Dot, GraphType::Scatter)
            } else {
                (Marker::Braille, GraphType::Line)
            };
            Dataset::default()
                .data(data)
                .marker(marker)
                .graph_type(graph)
                .style(curve.style)
        })
        .collect();
    let x_labels = vec![
        Line::styled(format!("{what} {first:.0}"), theme.dim()),
        Line::styled(format!("{what} {last:.0}"), theme.dim()),
    ];
    // One point still needs a width.
    let end = if last > first { last } else { first + 1.0 };
    Chart::new(datasets)
        .legend_position(None)
        .x_axis(
            Axis::default()
                .bounds([first, end])
                .labels(x_labels)
                .labels_alignment(Alignment::Right)
                .style(theme.faint()),
        )
        .y_axis(
            Axis::default()
                .bounds([low, high])
                .labels(labels)
                .labels_alignment(Alignment::Right)
                .style(theme.faint()),
        )
        .render(area, buffer);
}

/// A small chart without axes, under a line that says what it is and how it
/// went: `loss  0.412 → 0.386`.
pub(super) fn small_chart(
    theme: Theme,
    title: &str,
    series: &Series,
    scale: Scale,
    area: Rect,
    buffer: &mut Buffer,
) {
    let show = |value: f64| match scale {
        Scale::Share | Scale::FittedShare => text::share(value),
        Scale::Fitted if value.abs() >= 1000.0 => text::count(value.abs() as u64),
        Scale::Fitted => text::number(value, 3),
    };
    let mut heading = vec![say(title, theme.dim()), Span::raw("  ")];
    if let (Some((_, first)), Some((_, last))) = (series.first(), series.last()) {
        let (first, last) = (show(first), show(last));
        // The first value only where both fit.
        let both = text::width(title) + first.len() + last.len() + 5;
        if both <= usize::from(area.width) {
            heading.push(say(first, theme.plain()));
            heading.push(Span::styled(" → ", theme.dim()));
        }
        heading.push(say(last, theme.strong()));
    }
    put(buffer, area, 0, &Line::from(heading));
    let area = below(area, 1);
    let data: Vec<(f64, f64)> = series.points().map(|(x, y)| (x as f64, y)).collect();
    let (Some(first), Some(last)) = (data.first(), data.last()) else {
        nothing(theme, "nothing yet", area, buffer);
        return;
    };
    let (low, high) = bounds(scale, data.iter());
    let end = if last.0 > first.0 {
        last.0
    } else {
        first.0 + 1.0
    };
    let dataset = Dataset::default()
        .data(&data)
        .marker(Marker::Braille)
        .graph_type(GraphType::Line)
        .style(theme.accent());
    Chart::new(vec![dataset])
        .legend_position(None)
        .x_axis(Axis::default().bounds([first.0, end]))
        .y_axis(Axis::default().bounds([low, high]))
        .render(area, buffer);
}

/// A quiet line in the middle of an area that has nothing to show.
pub(super) fn nothing(theme: Theme, words: &str, area: Rect, buffer: &mut Buffer) {
    if area.height == 0 {
        return;
    }
    let words = text::fit(words, usize::from(area.width));
    let indent = (usize::from(area.width) - text::width(&words)) / 2;
    let line = Line::from(vec![
        Span::raw(" ".repeat(indent)),
        Span::styled(words, theme.dim()),
    ]);
    put(buffer, area, area.height / 2, &line);
}
