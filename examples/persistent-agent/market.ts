// A play market: made-up prices that move with every quote, and a portfolio that is a real file.
import { readFileSync, renameSync, writeFileSync } from "node:fs";

/** What can be bought, with the price in USD around which it moves. */
const BASE_PRICES = { BTC: 69_000, ETH: 3_500 } as const;

export type Coin = keyof typeof BASE_PRICES;
export const COINS = Object.keys(BASE_PRICES) as [Coin, ...Coin[]];

/** What the file holds. Money is in USD. */
export interface Portfolio {
  cash: number;
  holdings: Record<Coin, number>;
  trades: { coin: Coin; amount: number; price: number; at: string }[];
  /** How many prices were asked for: the market's clock. */
  quotes: number;
}

/** A market whose state outlives the process, in a JSON file. */
export class Market {
  readonly #file: string;

  /** @param file where the portfolio is, or will be at the first change */
  constructor(file: string) {
    this.#file = file;
  }

  /** Tells a price. The market moves on with every one that is told. */
  quote(coin: Coin): number {
    const portfolio = this.portfolio();
    portfolio.quotes += 1;
    this.#save(portfolio);
    return priceAt(coin, portfolio.quotes);
  }

  /**
   * Buys at the last price.
   *
   * @param amount how much of the coin, more than 0
   * @returns what was paid and the cash that is left, in USD
   * @throws Error when there is not enough cash
   */
  buy(coin: Coin, amount: number): { paid: number; cash: number } {
    const portfolio = this.portfolio();
    const price = priceAt(coin, portfolio.quotes);
    const paid = cents(price * amount);
    if (paid > portfolio.cash) {
      throw new Error(`${amount} ${coin} cost $${paid}, and there are $${portfolio.cash} in cash`);
    }
    portfolio.cash = cents(portfolio.cash - paid);
    portfolio.holdings[coin] = Number((portfolio.holdings[coin] + amount).toFixed(8));
    portfolio.trades.push({ coin, amount, price, at: new Date().toISOString() });
    this.#save(portfolio);
    return { paid, cash: portfolio.cash };
  }

  /** Reads the file anew: other processes trade too. */
  portfolio(): Portfolio {
    try {
      return JSON.parse(readFileSync(this.#file, "utf8")) as Portfolio;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
      return { cash: 50_000, holdings: { BTC: 0, ETH: 0 }, trades: [], quotes: 0 };
    }
  }

  // In one step, so that no crash leaves half a file.
  #save(portfolio: Portfolio): void {
    const draft = `${this.#file}.${process.pid}`;
    writeFileSync(draft, `${JSON.stringify(portfolio, null, 2)}\n`);
    renameSync(draft, this.#file);
  }
}

/** A wave, so that everybody who runs this sees the same prices. */
function priceAt(coin: Coin, quotes: number): number {
  return cents(BASE_PRICES[coin] * (1 - 0.04 * Math.sin(quotes)));
}

function cents(amount: number): number {
  return Math.round(amount * 100) / 100;
}
