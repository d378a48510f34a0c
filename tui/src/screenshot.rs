//! A finished frame as an SVG picture, for a README or a bug report.
//!
//! Words are text, so they can be read and searched; braille, blocks and box
//! drawing are shapes, so that lines meet whatever font the viewer has.

use std::collections::BTreeMap;
use std::fmt::Write;

use ratatui::buffer::{Buffer, CellWidth};
use ratatui::style::{Color, Modifier};

/// A cell, in pixels: the proportions of a common terminal font at 14 px.
const CELL: (f64, f64) = (8.4, 18.0);
/// Around the screen.
const MARGIN: f64 = 14.0;
const BACKGROUND: &str = "#10151c";
const BORDER: &str = "#2a323d";
const FOREGROUND: &str = "#d3dae3";

/// The picture of a buffer. `title` is read out by screen readers.
pub fn svg(buffer: &Buffer, title: &str) -> String {
    let area = buffer.area;
    let width = f64::from(area.width) * CELL.0 + 2.0 * MARGIN;
    let height = f64::from(area.height) * CELL.1 + 2.0 * MARGIN;
    let mut picture = Picture::default();
    for y in 0..area.height {
        let mut x = 0;
        while x < area.width {
            let cell = &buffer[(area.x + x, area.y + y)];
            let wide = cell.cell_width().max(1);
            picture.cell(x, y, cell.symbol(), wide, &Look::of(cell));
            x += wide;
        }
        picture.flush();
    }
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {width:.1} {height:.1}\" role=\"img\">\n\
         <title>{}</title>\n\
         <style>text{{font:14px ui-monospace,'SF Mono','Cascadia Mono','JetBrains Mono',Menlo,\
         Consolas,'DejaVu Sans Mono',monospace;white-space:pre}}.b{{font-weight:700}}</style>\n\
         <rect x=\".5\" y=\".5\" width=\"{:.1}\" height=\"{:.1}\" rx=\"8\" \
         fill=\"{BACKGROUND}\" stroke=\"{BORDER}\"/>",
        escape(title),
        width - 1.0,
        height - 1.0,
    );
    picture.write(&mut out);
    out.push_str("</svg>\n");
    out
}

/// How a cell looks.
#[derive(Debug, Clone, PartialEq)]
struct Look {
    colour: String,
    bold: bool,
}

impl Look {
    fn of(cell: &ratatui::buffer::Cell) -> Self {
        Self {
            colour: hex(cell.fg),
            bold: cell.modifier.contains(Modifier::BOLD),
        }
    }
}

/// A word under way.
#[derive(Debug)]
struct Word {
    x: u16,
    y: u16,
    cells: u16,
    text: String,
    look: Look,
}

#[derive(Debug, Default)]
struct Picture {
    word: Option<Word>,
    words: Vec<Word>,
    /// Paths by kind and colour.
    paths: BTreeMap<(Kind, String), String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// Round dots, drawn as strokes without length.
    Dots,
    /// Larger ones.
    Bullets,
    /// Thin strokes.
    Light,
    /// Thick strokes.
    Heavy,
    /// Filled rectangles.
    Filled,
}

impl Picture {
    fn cell(&mut self, x: u16, y: u16, symbol: &str, cells: u16, look: &Look) {
        let mut characters = symbol.chars();
        let first = characters.next().unwrap_or(' ');
        if characters.next().is_none()
            && let Some((kind, path)) = shape(first, left(x), top(y))
        {
            self.flush();
            let key = (kind, look.colour.clone());
            self.paths.entry(key).or_default().push_str(&path);
            return;
        }
        if symbol.trim().is_empty() {
            self.flush();
            return;
        }
        match &mut self.word {
            Some(word) if word.look == *look => {
                word.text.push_str(symbol);
                word.cells += cells;
            }
            _ => {
                self.flush();
                self.word = Some(Word {
                    x,
                    y,
                    cells,
                    text: symbol.to_owned(),
                    look: look.clone(),
                });
            }
        }
    }

    fn flush(&mut self) {
        self.words.extend(self.word.take());
    }

    fn write(&self, out: &mut String) {
        for ((kind, colour), path) in &self.paths {
            let paint = match kind {
                Kind::Filled => format!("fill=\"{colour}\""),
                Kind::Dots => stroke(colour, 2.2, "round"),
                Kind::Bullets => stroke(colour, 4.6, "round"),
                Kind::Light => stroke(colour, 1.2, "butt"),
                Kind::Heavy => stroke(colour, 2.6, "butt"),
            };
            let _ = writeln!(out, "<path {paint} d=\"{path}\"/>");
        }
        for word in &self.words {
            let class = if word.look.bold { " class=\"b\"" } else { "" };
            // The length keeps columns straight in a font of another width.
            let _ = writeln!(
                out,
                "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"{}\"{class} textLength=\"{:.1}\" \
                 lengthAdjust=\"spacingAndGlyphs\">{}</text>",
                left(word.x),
                top(word.y) + 13.2,
                word.look.colour,
                f64::from(word.cells) * CELL.0,
                escape(&word.text),
            );
        }
    }
}

fn stroke(colour: &str, width: f64, cap: &str) -> String {
    format!("fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\" stroke-linecap=\"{cap}\"")
}

fn left(x: u16) -> f64 {
    MARGIN + f64::from(x) * CELL.0
}

fn top(y: u16) -> f64 {
    MARGIN + f64::from(y) * CELL.1
}

/// The shape of a character that is one.
fn shape(character: char, x: f64, y: f64) -> Option<(Kind, String)> {
    let (width, height) = CELL;
    let (middle, centre) = (x + width / 2.0, y + height / 2.0);
    let (right, bottom) = (x + width, y + height);
    let code = u32::from(character);
    Some(match character {
        '\u{2800}'..='\u{28FF}' => (Kind::Dots, braille(code - 0x2800, x, y)),
        // Lower eighths; the full block is the eighth of them.
        '▁'..='█' => {
            let high = height * f64::from(code - 0x2580) / 8.0;
            let path = format!(
                "M{x:.1} {:.1}h{:.1}v{high:.1}h-{:.1}z",
                bottom - high,
                width - 0.6,
                width - 0.6
            );
            (Kind::Filled, path)
        }
        '─' => (Kind::Light, format!("M{x:.1} {centre:.1}H{right:.1}")),
        '━' => (Kind::Heavy, format!("M{x:.1} {centre:.1}H{right:.1}")),
        '│' => (Kind::Light, format!("M{middle:.1} {y:.1}V{bottom:.1}")),
        '└' => (
            Kind::Light,
            format!("M{middle:.1} {y:.1}V{centre:.1}H{right:.1}"),
        ),
        '╭' => (
            Kind::Light,
            format!("M{middle:.1} {bottom:.1}Q{middle:.1} {centre:.1} {right:.1} {centre:.1}"),
        ),
        '╮' => (
            Kind::Light,
            format!("M{x:.1} {centre:.1}Q{middle:.1} {centre:.1} {middle:.1} {bottom:.1}"),
        ),
        '╰' => (
            Kind::Light,
            format!("M{middle:.1} {y:.1}Q{middle:.1} {centre:.1} {right:.1} {centre:.1}"),
        ),
        '╯' => (
            Kind::Light,
            format!("M{x:.1} {centre:.1}Q{middle:.1} {centre:.1} {middle:.1} {y:.1}"),
        ),
        '•' => (Kind::Bullets, format!("M{middle:.1} {centre:.1}h.01")),
        _ => return None,
    })
}

/// The dots of a braille cell, by the bits of its number.
fn braille(bits: u32, x: f64, y: f64) -> String {
    // Columns then rows, in the order of the bits.
    const DOTS: [(f64, f64); 8] = [
        (0.0, 0.0),
        (0.0, 1.0),
        (0.0, 2.0),
        (1.0, 0.0),
        (1.0, 1.0),
        (1.0, 2.0),
        (0.0, 3.0),
        (1.0, 3.0),
    ];
    let mut path = String::new();
    for (bit, (column, row)) in DOTS.into_iter().enumerate() {
        if bits & (1 << bit) != 0 {
            let x = x + CELL.0 * (0.25 + 0.5 * column);
            let y = y + CELL.1 * (0.125 + 0.25 * row);
            let _ = write!(path, "M{x:.1} {y:.1}h.01");
        }
    }
    path
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // No control character is allowed in XML.
            character if character.is_control() => out.push('\u{FFFD}'),
            character => out.push(character),
        }
    }
    out
}

/// A colour of the 256-colour palette as `#rrggbb`.
fn hex(colour: Color) -> String {
    let Color::Indexed(index) = colour else {
        return FOREGROUND.to_owned();
    };
    let (red, green, blue) = match index {
        // The sixteen base colours are the terminal's own.
        0..=15 => return FOREGROUND.to_owned(),
        16..=231 => {
            let level = |step: u8| if step == 0 { 0 } else { 55 + 40 * step };
            let index = index - 16;
            (level(index / 36), level(index / 6 % 6), level(index % 6))
        }
        grey => {
            let grey = 8 + 10 * (grey - 232);
            (grey, grey, grey)
        }
    };
    format!("#{red:02x}{green:02x}{blue:02x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::style::Style;

    #[test]
    fn text_is_escaped_and_shapes_are_paths() {
        let mut buffer = Buffer::with_lines(["a<b ━⣿█"]);
        buffer.set_style(buffer.area, Style::new().fg(Color::Indexed(79)));
        let picture = svg(&buffer, "\"x\" & y");
        assert!(picture.contains("<title>&quot;x&quot; &amp; y</title>"));
        assert!(picture.contains(">a&lt;b</text>"));
        assert_eq!(picture.matches("<path").count(), 3);
        assert_eq!(picture.matches("h.01").count(), 8);
        assert!(picture.contains("#5fd7af"));
    }

    #[test]
    fn the_palette_is_the_usual_one() {
        assert_eq!(hex(Color::Indexed(16)), "#000000");
        assert_eq!(hex(Color::Indexed(231)), "#ffffff");
        assert_eq!(hex(Color::Indexed(203)), "#ff5f5f");
        assert_eq!(hex(Color::Indexed(246)), "#949494");
    }
}
